"""The base: from an image embedding, a text's tokens, or both, to the smallest picture.

Shapes: B pictures, E width of the embedding, L tokens of width W, S pixels a side, K things in a picture.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.data.source import Examples
from t2i.diffusion.loss import DenoisingObjective, Levels, diffusion_loss
from t2i.diffusion.process import Flow
from t2i.errors import InputError
from t2i.nets.clip import Clip
from t2i.nets.conditioner import UNetCond
from t2i.nets.unet import UNet
from t2i.nets.unet_config import UNetConfig
from t2i.stages.designs import build_net
from t2i.stages.loading import load_net
from t2i.store.bundle import read_bundle
from t2i.store.manifest import StageEntry
from t2i.text.cond import TextCond
from t2i.train.encoders import Encoders, train_first
from t2i.train.loop import fit
from t2i.train.masking import random_masks, thing_weights
from t2i.train.objective import Objective, Trainable
from t2i.train.objectives.distill_reader import READING, DistillSchedule, ReaderDistillation, why_not
from t2i.train.part import WHOLE, Part, denoising_noise, padded
from t2i.train.pool import unit
from t2i.train.prior_augment import augment
from t2i.train.recipe import Pixels, Recipe, Schedule, Share, StageRecipe, Weight
from t2i.train.run import Run
from t2i.train.sheets import COLUMNS, draw_base
from t2i.train.streams import examples_seed, first_weights
from t2i.train.warm_start import load_average, load_start


@dataclass(frozen=True)
class BaseRecipe(StageRecipe):
    """`[base]`."""

    net: UNetConfig = field(default_factory=UNetConfig)
    schedule: Schedule = field(default_factory=Schedule)
    reading: DistillSchedule = field(default_factory=DistillSchedule)
    objective: DenoisingObjective = field(
        default_factory=lambda: DenoisingObjective(levels=Levels(mean=0.4, std=1.0, stratified=True))
    )
    size: Pixels = 64
    drop_z: Share = 0.1
    drop_text: Share = 0.3
    masked: Share = 0.15  # share of samples in inpainting mode
    thing_weight: Weight = 1.0  # weight of the pixels of things in the error, where those of the background have 1
    z_noise: Weight = 0.15  # on the embedding, per coordinate in units of 1/sqrt(E)
    imagined: Share = 0.0  # share of embeddings that are redrawn by the prior, which has to be there (prior_augment.py)
    warm_start: bool = True  # from the small base that trained with CLIP

    @property
    def trained_by(self) -> str:
        return "base"


class BaseObjective(Objective):
    """The denoising loss at the states of a frozen text encoder, and at CLIP's embeddings where there is a CLIP.

    Pretraining: a base with a text reader (`net.reader_layers`) that starts from a base with image embeddings first
    learns to read from that one (`distill_reader.py`).
    """

    examples = "base"
    compiles = True
    pretraining = READING
    config: BaseRecipe
    net: UNet

    def __init__(self, run: Run, name: str, encoders: Encoders) -> None:
        super().__init__(run, name, encoders)
        if encoders.clip is not None:
            encoders.clip.to(self.device).eval().requires_grad_(False)
        self.prior = _finished_prior(run) if self.config.imagined else None

    @classmethod
    def build(cls, recipe: Recipe, name: str) -> UNet:
        return first_weights(recipe.seed, name, lambda: UNet(recipe.stage(name, BaseRecipe).net))

    @classmethod
    def learns_from(cls, recipe: Recipe, name: str) -> tuple[str, ...]:
        imagined = recipe.stage(name, BaseRecipe).imagined
        return (recipe.encoder, "prior") if imagined else (recipe.encoder,)

    @classmethod
    def bundle_entry(cls, recipe: Recipe, name: str) -> tuple[StageEntry, dict[str, Any]]:
        part, defaults = recipe.stage(name, BaseRecipe), recipe.sample.base
        net = part.net
        config: dict[str, Any] = {"net": net.to_dict()}
        config |= {"prediction": part.objective.prediction, "process": {"kind": "flow"}}
        config["widths"] = {"cond_dim": net.cond_dim, "text_dim": net.text_dim, "size": part.size}
        config["size"] = part.size
        if net.text_dim:
            config["widths"]["context"] = recipe.stages[recipe.encoder].net.context
        if not net.text_dim:
            defaults = defaults.without_text
        if not (net.text_dim and net.cond_dim):  # there is only one way to condition it
            defaults = replace(defaults, z_guidance=None)
        low = part.objective.levels.low
        if low and defaults.t_end is None:  # what it was not trained for is not asked of it
            defaults = replace(defaults, t_end=low)
        return StageEntry(name, "base", name, defaults), config

    @classmethod
    def rules(cls, recipe: Recipe, name: str, stages: tuple[str, ...]) -> list[tuple[bool, str]]:
        part = recipe.stage(name, BaseRecipe)
        net, blind = part.net, recipe.encoder == "text" and name in stages
        return [
            (part.size % net.multiple == 0, f"base.size is not a multiple of {net.multiple}, as base.net needs"),
            (net.in_channels == 7, "base.net.in_channels is not 7: colours, mask, masked colours"),
            (not blind or not net.cond_dim, "base.net.cond_dim is not 0, and there is no CLIP to embed"),
        ]

    # First weights and pretraining -----------------------------------------------------------------------------------

    def warm_start(self) -> None:
        """From `--start`, where a base that reads something else or has fewer blocks will do; else from the small base
        that trained with CLIP, if it is the same network."""
        if self.run.start:
            load_start(self.run.start, self.name, self.net, self.run.report, partial=True)
            start = read_bundle(self.run.start)
            old: Any = build_net(start, start.manifest.stage(self.name)).config
            if replace(old, blocks=self.net.config.blocks) == self.net.config:
                self.net.make_identity(old.blocks)
            return None
        folder = self.run.folder("clip")
        if self.config.warm_start and self.run.begun("clip") and load_average(folder, "base.", self.net):
            self.run.report({"event": "warm start", "stage": self.name, "path": str(folder)})
        return None

    @property
    def captions_read(self) -> int:
        return self.schedule.steps * self.schedule.batch

    def planned_pretraining(self) -> Trainable | None:
        return self._distillation()[0]

    def prepare(self) -> bool:
        return super().prepare() and (self.run.team.first(lambda: self.run.resumes(self.name)) or self._pretrain())

    def _distillation(self) -> tuple[ReaderDistillation | None, str]:
        """The pretraining of the reader; or None, and the reason if there is a reader and no base to learn from."""
        if not self.net.config.reader_layers or not self.config.reading.steps:
            return None, ""
        start = read_bundle(self.run.start) if self.run.start else None
        clips, bases = (start.manifest.of_kind(kind) if start else [] for kind in ("clip", "base"))
        teacher: Any = build_net(start, bases[0]).config if start and bases else None
        if why := why_not(teacher, self.net.config):
            return None, why
        assert start is not None and clips, "an embedding without CLIP"
        clip, base = load_net(start, clips[0]), load_net(start, bases[0])
        assert isinstance(clip, Clip) and isinstance(base, UNet) and self.encoders.text is not None
        facts = {**self.facts, "start": str(self.run.start and self.run.start.resolve())}
        schedule, drop, text = self.config.reading, self.config.drop_text, self.encoders.text
        found = ReaderDistillation(self.run, schedule, drop, self.net.cond.reader, text, clip, base.cond, facts)
        return found, ""

    def _pretrain(self) -> bool:
        """Train the reader, if there is anything to learn from. Whether the base's own training may begin."""
        run, resume = self.run, self.run.team.first(lambda: self.run.resumes(READING))
        if not resume:
            run.team.first(lambda: shutil.rmtree(run.folder(READING), ignore_errors=True))
        task, why = self._distillation()
        if task is None:
            if why:
                run.report({"event": "not taught", "stage": READING, "reason": why})
            return True
        if not task.fill_pool():
            return False
        state = fit(task, resume=resume)
        if state.step < task.schedule.steps:
            return False
        task.module.load_state_dict(state.ema.weights)
        return True

    # Training ------------------------------------------------------------------------------------------------------

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        r = self.config
        examples, things = self._drawn(step)
        x0 = examples.pixels.to(self.device)
        z, text = self.conditions(x0, examples.captions)
        states = None if text is None else (text.tokens, text.mask)
        g = self.noise(step)
        if self.prior is not None and z is not None and text is not None:
            z = augment(self.prior, z, text, r.imagined, g, self.part)
        loss, extra = base_loss(self.net, r, x0, z, states, g, z_noise=r.z_noise, things=things, part=self.part)
        return loss, {"mse": float(extra["mse"].mean())}

    def _drawn(self, step: int) -> tuple[Examples, Tensor | None]:
        """The examples of `part`, and the masks (N, K, S, S) of the things in the whole batch: what is repainted of one
        picture may have the outline of a thing in another."""
        p, r = self.part, self.config
        n = r.schedule.batch // p.ranks
        if p.micro_batch == 0:  # those of all passes of this process
            masks = r.masked > 0 or r.thing_weight != 1
            mine = self.source.batch(self.examples_seed, step * p.ranks + p.rank, n, r.size, masks)
            things, team = mine.masks, self.run.team
            if things is not None and p.ranks > 1:
                most = max(team.gather_list([things.shape[1]]))
                things = team.gather(padded(things, most).to(self.device)).cpu()
            self._of_step = mine, things
        mine, things = self._of_step
        n //= p.micro_batches
        return mine.rows(p.micro_batch * n, (p.micro_batch + 1) * n), things

    def conditions(self, x0: Tensor, captions: list[str]) -> tuple[Tensor | None, TextCond | None]:
        """As `read_examples`."""
        return read_examples(self.encoders, self.net.config, x0, captions, self.tight)

    def sheet(self) -> Tensor | None:
        """Two rows: pictures, and what the base makes of their embeddings and captions."""
        size, prediction = self.config.size, self.config.objective.prediction
        examples = self.source.batch(examples_seed(self.recipe.seed, "sheets"), 0, COLUMNS, size)
        x0 = examples.pixels.to(self.device)
        z, text = self.conditions(x0, examples.captions)
        return torch.stack([x0, draw_base(self.net, self.recipe.sample.base, prediction, size, z, text)])

    def notes(self) -> dict[str, Any]:
        if not self.run.begun(READING):
            return {}
        facts = self.run.checkpoint(READING)
        return {"reading": {key: facts[key] for key in ("step", "samples", "seconds")}}


@torch.no_grad()
def read_examples(
    encoders: Encoders, net: UNetConfig, x0: Tensor, captions: list[str], tight: bool = True
) -> tuple[Tensor | None, TextCond | None]:
    """Unit image embeddings (B, E) of pictures x0 (B, 3, S, S) and the states of their captions; None for what a base
    with this config does not read. tight: as of `TextEncoder.encode`."""
    z, text, clip = None, None, encoders.clip
    if clip is not None and net.cond_dim:
        side = clip.config.image_size
        small = x0 if x0.shape[-1] == side else F.interpolate(x0, size=(side, side), mode="area")
        z = unit(clip.encode_image(small))
    if net.text_dim:
        assert encoders.text is not None
        text = encoders.text.encode(captions, tight)[0].to(x0.device)
    return z, text


def base_loss(
    base: UNet, recipe: BaseRecipe, x0: Tensor, z: Tensor | None, text: tuple[Tensor, Tensor] | None,
    g: torch.Generator, *, z_noise: float, things: Tensor | None = None, part: Part = WHOLE,
) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
    """The denoising loss of pictures x0 (B, 3, S, S): a scalar, and `diffusion_loss`'s facts.

    z: unit embeddings (B, E). text: tokens (B, L, W) and their mask (B, L). A share `recipe.masked` of the samples
    repaints only a part, among others of the outlines of `things` (N, K, S, S), whose pixels weigh
    `recipe.thing_weight` in the error; x0 is `part` of N pictures. Either condition is dropped at random,
    so that sampling can be guided.
    """
    n, size = x0.shape[0] * part.of, x0.shape[-1]
    mask = part.rows(random_masks(n, size, recipe.masked, g, things)).to(x0.device)
    drop = part.rows(torch.rand(n, 2, generator=g)).to(x0.device)
    keep_z = keep_text = None
    if z is not None:
        keep_z = drop[:, 0] >= recipe.drop_z
        noise = part.rows(torch.randn(n, z.shape[-1], generator=g)).to(z.device)
        z = z + z_noise / z.shape[-1] ** 0.5 * noise
    tokens = token_mask = None
    if text is not None:
        tokens, token_mask = text
        # With the embedding dropped, half of the pictures lose the text too: the wholly unconditional model.
        both = drop[:, 0] < recipe.drop_z if z is not None else torch.zeros_like(drop[:, 0], dtype=torch.bool)
        keep_text = torch.where(both, drop[:, 1] >= 0.5, drop[:, 1] >= recipe.drop_text)
    cond = UNetCond(z=z, z_keep=keep_z, tokens=tokens, mask=token_mask, tokens_keep=keep_text)

    def net(x_t: Tensor, t: Tensor, cond: UNetCond) -> Tensor:
        return base(masked_input(x_t, x0, mask), t, cond)

    weight = thing_weights(things, recipe.thing_weight)
    weight = None if weight is None else part.rows(weight).to(x0.device)
    t, eps = denoising_noise(recipe.objective, Flow(), x0, part, g)
    loss, extra = diffusion_loss(
        net, Flow(), recipe.objective, x0, cond, generator=g, t=t, eps=eps, pixel_weight=weight
    )
    return loss.mean(), extra


def masked_input(x_t: Tensor, x0: Tensor, mask: Tensor) -> Tensor:
    """The base's 7 input channels (GLIDE, section 3.3): noisy RGB, mask (1 = repaint), known RGB."""
    return torch.cat([x_t, mask, x0 * (1 - mask)], dim=1)


def _finished_prior(run: Run) -> nn.Module:
    """The prior of the bundle that is being trained, frozen. Raises InputError."""
    bundle = run.bundle()
    entries = bundle.manifest.of_kind("prior") if bundle else []
    if bundle is None or not entries:
        what = f"{run.out} holds no prior yet, and base.imagined asks for it"
        raise InputError(what, train_first("prior"), "data")
    return load_net(bundle, entries[0]).to(run.device).eval().requires_grad_(False)
