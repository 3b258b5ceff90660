"""Trains a personal model: low-rank adapters (LoRA: Hu 2021) of prior, base and upsampler, and the row of a new word in
the text encoder's table (textual inversion: Gal 2022, arXiv 2208.01618), all in one step.

The user's pictures, and their thing pasted into other places, give the losses that the stages were trained with; base
and upsampler are told what the prior makes of the embeddings (`prior_augment.py`). Beside them, the changed networks
are held to what the unchanged ones answer on pictures that the model drew itself: prior preservation (DreamBooth: Ruiz
2022, arXiv 2208.12242) by the networks' outputs, which leaves nothing to learn where nothing has changed.
Shapes: B examples, E width of the embedding.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.diffusion.loss import DenoisingObjective, diffusion_loss
from t2i.diffusion.process import Flow
from t2i.nets.conditioner import UNetCond
from t2i.nets.lora import Adapter, matrices
from t2i.nets.prior import PriorCond
from t2i.nets.sr_unet import SRUNet
from t2i.pipeline import Pipeline
from t2i.sampling import SampleRequest
from t2i.stages.base import bound_net
from t2i.stages.personal import reserve
from t2i.text.cond import TextCond
from t2i.text.encoder import NetEncoder
from t2i.train import streams
from t2i.train.objective import Trainable
from t2i.train.objectives.clip import token_ids
from t2i.train.objectives.prior import without_text
from t2i.train.objectives.sr_unet import crop, dissimilarity
from t2i.train.personal.pool import Answers, PersonalPool, Rows
from t2i.train.personal.recipe import PersonalRecipe
from t2i.train.prior_augment import augment
from t2i.train.run import Run
from t2i.train.sheets import COLUMNS

Changed = Mapping[str, Any]
STAGE = "lora"
RAMP = 0.3  # share of the steps until `redrawn` is reached
CROP = 128  # side of a crop of the upsampler's pictures, in pixels
SCENES = ("{}", "{} in the snow", "{} at the beach", "森林里有一个{}", "{} at night", "{} in space", "{} on the road")


class PersonalNet(nn.Module):
    """What is trained. word (W,): the new row; adapters: stage -> the changes of its network."""

    def __init__(self, nets: Mapping[str, nn.Module], word: Tensor, rank: int) -> None:
        super().__init__()
        self.word = nn.Parameter(word.detach().clone())
        self.adapters = nn.ModuleDict({name: Adapter(net, matrices(net), rank) for name, net in nets.items()})

    def parts(self) -> dict[str, Adapter]:
        """Stage -> the changes of its network."""
        return {name: part for name, part in self.adapters.items() if isinstance(part, Adapter)}


class PersonalObjective(Trainable):
    """pipeline: the model, unchanged. pool: the examples. facts: what a checkpoint must agree with."""

    name = STAGE
    uncut = "its parts have batches of their own"
    module: PersonalNet
    pool: PersonalPool

    def __init__(
        self, run: Run, recipe: PersonalRecipe, pipeline: Pipeline, pool: PersonalPool, facts: Mapping[str, Any]
    ) -> None:
        self.run, self.recipe, self.pipeline, self.pool = run, recipe, pipeline, pool
        self.schedule, self.facts, self.clip = recipe.schedule, facts, pipeline.clip
        assert pipeline.prior is not None and isinstance(pipeline.encoder, NetEncoder)
        self.tokenizer, (self.row,) = reserve([pool.token], pipeline.encoder.tokenizer)
        self.nets: dict[str, Any] = {stage.name: stage.net for _, stage in (pipeline.prior, pipeline.base)}
        if (upsampler := trained_upsampler(pipeline)) is not None:
            self.nets |= dict([upsampler])
        self.prior, self.base, *self.upsamplers = self.nets
        word = self.clip.token_embedding.weight.mean(0)
        build = lambda: PersonalNet(self.nets, word, recipe.rank)  # noqa: E731
        self.module = streams.first_weights(run.recipe.seed, STAGE, build)

    @torch.no_grad()
    def begin(self) -> None:
        """Start the new word at the known word that CLIP finds nearest to the user's pictures."""
        assert self.pool.views is not None
        words = sorted(w for w in self.pipeline.words.known if len(self.tokenizer.backend.encode(w).ids) == 1)
        if words:
            said = F.normalize(self._read(words, None).pooled, dim=-1)
            nearest = words[int((said @ self.pool.views.z.to(said.device).mean(0)).argmax())]
            row = self.tokenizer.backend.encode(nearest).ids[0]
            self.module.word.copy_(self.clip.token_embedding.weight[row])
            self.run.report({"event": "begins", "stage": STAGE, "like": nearest})

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        c, g = self.recipe, streams.noise(self.run.recipe.seed, STAGE, step)
        changed = self._changed()
        with_upsampler = bool(self.upsamplers) and step % 2 == 0
        assert self.pool.views is not None
        mine = self._there(self.pool.draw(self.pool.views, self.schedule.batch, g))
        text = self._read(mine.captions, self.module.word)
        parts = {"prior": self._prior(changed, mine, text, g)}
        mine = replace(mine, z=self._told(changed, mine, text, step, g))
        parts["base"], drawn = self._base(changed, mine, text, g)
        if with_upsampler:
            parts["upsampler"] = self._upsampler(changed, mine, drawn, g)
        total = torch.stack(list(parts.values())).sum()
        if self.pool.kept is not None and c.kept:
            kept = self._there(self.pool.draw(self.pool.kept, c.kept, g))
            parts["lost"] = self._lost(changed, kept, g, with_upsampler)
            if self.pool.answers is not None:
                parts["lost"] = parts["lost"] + c.keep_told * self._unsaid(changed, self.pool.answers, g)
            total = total + c.keep * parts["lost"]
        return total, {name: float(part.detach()) for name, part in parts.items() if name != "upsampler"}

    def _there(self, rows: Rows) -> Rows:
        to = self.run.device
        large = None if rows.large is None else rows.large.to(to)
        return Rows(rows.small.to(to), rows.z.to(to), rows.captions, large)

    def _read(self, captions: list[str], word: Tensor | None) -> TextCond:
        """The captions encoded; with the new word's row, where there is one."""
        ids = token_ids(self.tokenizer, captions, self.clip, self.run.device, self.tight)
        table = self.clip.token_embedding.weight
        if word is not None:
            table = table.index_put((torch.tensor(self.row, device=table.device),), word)
        out = self.clip.encode_text(ids, table)
        return TextCond(out.tokens.float(), out.mask, out.pooled.float())

    def _changed(self) -> Changed:
        """Stage -> its network as a function, with its changes."""
        return {name: adapter.adapted(self.nets[name]) for name, adapter in self.module.parts().items()}

    # ---- The user's pictures -------------------------------------------------------------------------

    def _prior(self, changed: Changed, rows: Rows, text: TextCond, g: torch.Generator) -> Tensor:
        cond = self._prior_cond(text, g)
        z = (rows.z * rows.z.shape[-1] ** 0.5).repeat(self.recipe.draws, 1)
        net = self.pipeline.stages[self.prior].plain(changed[self.prior], _without)
        return diffusion_loss(net, Flow(), self.recipe.prior, z, cond, generator=g)[0].mean()

    def _told(self, changed: Changed, rows: Rows, text: TextCond, step: int, g: torch.Generator) -> Tensor:
        """The embeddings (B, E) that base and upsampler are told: a share of them redrawn by the changed prior, which
        grows from 0 while the prior learns."""
        share = self.recipe.redrawn * min(1.0, step / max(1, RAMP * self.schedule.steps))
        fixed = TextCond(text.tokens.detach(), text.mask, text.pooled.detach())
        return augment(changed[self.prior], rows.z, fixed, share, g)

    def _base(self, changed: Changed, rows: Rows, text: TextCond, g: torch.Generator) -> tuple[Tensor, Tensor]:
        """The loss, and the base's estimates of the pictures (B, 3, S/s, S/s)."""
        stage, cond = self.pipeline.base[1], self._base_cond(rows, text, g)
        net = stage.plain(bound_net(stage, changed=changed[self.base]), _without)
        loss, more = diffusion_loss(net, Flow(), self.recipe.base, rows.small, cond, generator=g)
        return loss.mean(), more["x0_hat"].detach().float().clamp(-1, 1)

    def _upsampler(self, changed: Changed, rows: Rows, drawn: Tensor, g: torch.Generator) -> Tensor:
        """drawn: what the base makes of the rows' small pictures, which takes their place in a share of the rows."""
        assert rows.large is not None
        c, n, large = self.recipe, min(self.recipe.crops, len(rows.z)), rows.large
        taken = (torch.rand(len(rows.z), generator=g) < c.drawn).to(drawn.device)
        rows = replace(rows, small=torch.where(taken[:, None, None, None], drawn, rows.small))
        inputs, corner = self._crops(rows, n, g)
        made = self._enlarge(changed[self.upsamplers[0]], inputs, corner, rows)
        scale = large.shape[-1] // rows.small.shape[-1]
        wanted = crop(large[:n], corner * scale, made.shape[-1])
        return F.l1_loss(made, wanted) + c.ssim * dissimilarity(made, wanted)

    # ---- What the model could draw before -------------------------------------------------------------

    def _lost(self, changed: Changed, rows: Rows, g: torch.Generator, with_upsampler: bool) -> Tensor:
        """How far changed base and upsampler are from the unchanged ones."""
        c = self.recipe
        with torch.no_grad():
            text = self._read(rows.captions, None)
        stage = self.pipeline.base[1]
        new, old = bound_net(stage, changed=changed[self.base]), bound_net(stage)
        lost = self._apart(new, old, c.base, rows.small, self._base_cond(rows, text, g), g)
        if with_upsampler:
            name, n = self.upsamplers[0], min(max(1, c.crops // 2), len(rows.z))
            inputs, corner = self._crops(rows, n, g)
            with torch.no_grad():
                wanted = self._enlarge(self.nets[name], inputs, corner, rows)
            lost = lost + F.l1_loss(self._enlarge(changed[name], inputs, corner, rows), wanted)
        return lost

    def _unsaid(self, changed: Changed, answers: Answers, g: torch.Generator) -> Tensor:
        """How far the changed prior is from the unchanged one."""
        some = answers.draw(self.recipe.kept_told, g)
        with torch.no_grad():
            text = self._read(some.captions, None)
        z = (some.z * some.z.shape[-1] ** 0.5).to(self.run.device).repeat(self.recipe.draws, 1)
        cond = self._prior_cond(text, g)
        return self._apart(changed[self.prior], self.nets[self.prior], self.recipe.prior, z, cond, g)

    def _apart(
        self, new: Any, old: Any, objective: DenoisingObjective, x0: Tensor, cond: Any, g: torch.Generator
    ) -> Tensor:  # fmt: skip
        """The weighted squared distance of the outputs of two networks at noised x0."""
        process = Flow()
        t = objective.levels.draw(process, len(x0), g).to(x0.device)
        x_t = process.add_noise(x0, t, torch.randn(x0.shape, generator=g).to(x0.device))
        with torch.no_grad():
            wanted = old(x_t, t, cond).float()
        error = (new(x_t, t, cond).float() - wanted).square().flatten(1).mean(1)
        return (objective.weight(process.alpha_t(t), process.sigma_t(t)) * error).mean()

    # ---- Conditions, as the stages were trained with them ---------------------------------------------

    def _prior_cond(self, text: TextCond, g: torch.Generator) -> PriorCond:
        keep = (torch.rand(len(text), generator=g) >= self.recipe.drop_prior).to(self.run.device)
        return PriorCond(text.tokens, text.mask, F.normalize(text.pooled, dim=-1), keep, self.recipe.draws)

    def _base_cond(self, rows: Rows, text: TextCond, g: torch.Generator) -> UNetCond:
        c, u = self.recipe, torch.rand(len(rows.z), 2, generator=g)
        z = rows.z + c.z_noise / rows.z.shape[-1] ** 0.5 * torch.randn(rows.z.shape, generator=g).to(rows.z.device)
        keep_z = u[:, 0] >= c.drop_z
        keep_text = torch.where(keep_z, u[:, 1] >= c.drop_text, u[:, 1] >= 0.5)
        return UNetCond(z, keep_z.to(z.device), text.tokens, text.mask, keep_text.to(z.device))

    def _crops(self, rows: Rows, n: int, g: torch.Generator) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
        """(noised crops of the first n small pictures, their level of noise, their embeddings), and the corners."""
        net, whole = self.nets[self.upsamplers[0]], rows.small.shape[-1]
        side = min(CROP // net.config.scale, whole)
        unit = net.config.multiple
        corner = torch.randint((whole - side) // unit + 1, (n, 2), generator=g) * unit
        low = crop(rows.small[:n], corner, side)
        level = self.recipe.noise * torch.rand(n, generator=g)
        low = low + (level.view(-1, 1, 1, 1) * torch.randn(low.shape, generator=g)).to(low.device)
        return (low, level.to(low.device), rows.z[:n]), corner

    def _enlarge(self, net: Any, inputs: tuple[Tensor, Tensor, Tensor], corner: Tensor, rows: Rows) -> Tensor:
        """What an upsampler makes of crops of the small pictures that begin at `corner`."""
        out: Tensor = net(*inputs, None, corner, tuple(rows.small.shape[2:]))
        return out.float()

    # ---- What it has learned --------------------------------------------------------------------------

    def changes(self) -> dict[str, dict[str, tuple[Tensor, Tensor]]]:
        """Stage -> weight -> (up, down), of the module as it is now."""
        return {
            stage: {name: (part.up.detach(), part.down.detach()) for name, part in adapter.parts().items()}
            for stage, adapter in self.module.parts().items()
        }

    def sheet(self) -> Tensor:
        """Two rows: views of the user's pictures, and what is drawn of new scenes."""
        assert self.pool.views is not None
        views = self.pool.views.small[:COLUMNS]
        prompts = [SCENES[i % len(SCENES)].format(self.pool.token) for i in range(len(views))]
        changed = copy.deepcopy(self.pipeline)
        for stage, adapter in self.module.parts().items():
            weights: Mapping[str, Tensor] = dict(changed.stages[stage].net.named_parameters())
            for name, part in adapter.parts().items():
                weights[name].add_(part())
        changed.clip.token_embedding.weight[self.row] = self.module.word
        changed.encoder.tokenizer = self.tokenizer  # type: ignore[attr-defined]
        drawn = changed.sample(prompts, range(len(prompts)), SampleRequest(size=self.pool.low)).images
        return torch.stack([views, drawn])


def _without(cond: Any) -> Any:
    """A condition of prior or base without its text, which guidance leads away from; the embedding stays."""
    if isinstance(cond, PriorCond):
        return without_text(cond)
    return replace(cond, tokens_keep=torch.zeros_like(cond.tokens_keep))


def trained_upsampler(pipeline: Pipeline) -> tuple[str, SRUNet] | None:
    """The first upsampler, if it redraws what an image embedding names; others enlarge what is there."""
    entries = pipeline.manifest.of_kind("upsampler")
    net = pipeline.stages[entries[0].name].net if entries else None
    return (entries[0].name, net) if isinstance(net, SRUNet) and net.config.image_dim else None
