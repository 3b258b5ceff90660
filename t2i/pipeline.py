"""The engine: encodes the prompts once and chains the stages that the bundle's manifest names.

    pipeline = Pipeline.load(Path("weights/small"))
    pictures = pipeline.sample(["a cat in the snow"], seeds=[7]).images      # (1, 3, 256, 256) in [-1, 1]

It prints nothing and writes nothing. A picture is a function of (weights, prompt, request, seed), never of
its neighbours in the batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.errors import UsageError
from t2i.media.images import resize
from t2i.nets.clip import Clip
from t2i.nets.unet import UNetCond
from t2i.sampling import SampleRequest, SamplingConfig
from t2i.stages.base import guided, sample_base
from t2i.stages.loading import PIXELS, build_stage, load_encoder, load_net
from t2i.stages.prior import sample_prior
from t2i.stages.stage import InpaintCond, OnStep, Stage, Start
from t2i.stages.upsampler import sample_upsampler
from t2i.store.bundle import Manifest, StageEntry, read_bundle
from t2i.store.fit import ENCODERS
from t2i.store.manifest import sharpened
from t2i.store.whole import check_whole
from t2i.text.cond import TextCond
from t2i.text.encoder import TextEncoder
from t2i.text.memory import Remembered
from t2i.text.words import Words


@dataclass(frozen=True)
class Conditioning:
    """What B pictures shall show, None for what is left open: text, image embeddings z (B, E), and the same of what
    they shall not show."""

    text: TextCond | None = None
    z: Tensor | None = None
    negative: TextCond | None = None
    z_negative: Tensor | None = None


@dataclass(frozen=True)
class Samples:
    """images (B, 3, H, W) in [-1, 1]; stages: name -> what each stage made, if kept; truncated: the part of
    each prompt that did not fit, or None; unknown: the words of each prompt that the training never said."""

    images: Tensor
    stages: dict[str, Tensor]
    truncated: list[str | None]
    unknown: list[list[str]]


class Pipeline:
    """A loaded bundle. Built by `Pipeline.load`. encoder: what reads the prompts; words: what the training captions
    said."""

    def __init__(
        self, manifest: Manifest, encoder: TextEncoder, stages: Mapping[str, Stage], clip: Clip | None = None
    ) -> None:
        self.manifest, self.encoder, self.stages, self._clip = manifest, encoder, stages, clip
        self.words = Words.from_notes(manifest.notes)
        self.texts = Remembered()

    @classmethod
    def load(cls, path: Path | str, device: str = "cpu", dtype: str = "float32", *, sharp: bool = False) -> Pipeline:
        """Read a bundle and build its networks. Raises InputError for a damaged or incomplete one.

        dtype is that of the stages that draw pixels; text encoder and prior are small, and stay in float32. sharp: with
        the bundle's sharp upsamplers, where it has them, in the place of the plain ones.
        """
        bundle = read_bundle(path)
        manifest = sharpened(bundle.manifest) if sharp else bundle.manifest
        check_whole(manifest, bundle.configs)
        nets: dict[str, nn.Module] = {}
        encoder: TextEncoder | None = None
        stages: dict[str, Stage] = {}
        for entry in manifest.stages:
            if entry.kind == "sharp":
                continue
            net = load_net(bundle, entry).to(device).eval().requires_grad_(False)
            if entry.kind in PIXELS:
                net.to(getattr(torch, dtype)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            nets[entry.kind] = net
            if entry.kind in ENCODERS:
                encoder = load_encoder(bundle, entry, net)
            else:
                stages[entry.name] = build_stage(bundle, entry, net)
        clip = nets.get("clip")
        assert encoder is not None and (clip is None or isinstance(clip, Clip))
        return cls(manifest, encoder, stages, clip)

    @property
    def clip(self) -> Clip:
        """What sees pictures. Raises UsageError for a model without: Imagen's text encoder has never seen one."""
        if self._clip is None:
            raise UsageError(*blind(self.manifest.name))
        return self._clip

    @torch.inference_mode()
    def encode(self, prompts: Sequence[str]) -> tuple[TextCond, list[str | None]]:
        """The prompts encoded, (B, ...), and of each the part that did not fit, or None.

        Each distinct prompt is encoded once, also over several calls, and alone, so that its numbers do not depend
        on the others.
        """
        distinct = list(dict.fromkeys(prompts))
        found = {prompt: self.texts.get(prompt) for prompt in distinct}
        known = {prompt: row for prompt, row in found.items() if row is not None}
        fresh = [prompt for prompt in distinct if prompt not in known]
        for prompt in fresh:
            text, cut = self.encoder.encode([prompt])
            known[prompt] = text, cut[0]
            self.texts.put(prompt, *known[prompt])
        outs = [known[prompt] for prompt in distinct]
        parts = ([getattr(row, k) for row, _ in outs] for k in ("tokens", "mask", "pooled"))
        place = {prompt: i for i, prompt in enumerate(distinct)}
        rows = [place[prompt] for prompt in prompts]
        return TextCond(*map(torch.cat, parts)).select(rows), [outs[i][1] for i in rows]

    @torch.inference_mode()
    def sample(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        request: SampleRequest | None = None,
        on_step: OnStep | None = None,
    ) -> Samples:
        """One picture a (prompt, seed) pair. Raises UsageError for a size the bundle does not have."""
        assert len(prompts) == len(seeds) > 0, "one seed a prompt"
        request = request or SampleRequest()
        self.check(request)
        conditioning, cut = self.condition(prompts, seeds, request, on_step)
        return self.draw(conditioning, seeds, request, on_step, prompts=prompts, truncated=cut)

    @torch.inference_mode()
    def draw(
        self,
        conditioning: Conditioning,
        seeds: Sequence[int],
        request: SampleRequest,
        on_step: OnStep | None = None,
        *,
        start: Start | None = None,
        prompts: Sequence[str] = (),
        truncated: Sequence[str | None] = (),
    ) -> Samples:
        """The cascade from its base on: one picture a seed. `start`: where the base begins, if not at noise."""
        self.check(request)
        images = self.sample_base(conditioning, seeds, request, on_step, start=start)
        kept: dict[str, Tensor] = {}
        if request.keep_stages:
            if conditioning.z is not None and self.manifest.of_kind("prior"):
                kept[self.manifest.of_kind("prior")[0].name] = conditioning.z.float().cpu()
            kept[self.manifest.of_kind("base")[0].name] = images.float().cpu()
        images = self.upsample(
            images, conditioning, seeds, request, on_step, kept=kept if request.keep_stages else None
        )
        unknown = [self.words.unknown(prompt) for prompt in prompts] or [[] for _ in seeds]
        return Samples(images.float().cpu(), kept, list(truncated) or [None] * len(seeds), unknown)

    def check(self, request: SampleRequest) -> None:
        """Raises UsageError for a size that the bundle does not have, a prior, sampler or threshold that none has."""
        if (size := request.size) and size not in self.manifest.sizes:
            sizes = ", ".join(map(str, self.manifest.sizes))
            name = self.manifest.name
            raise UsageError(f"the model {name!r} makes no pictures of {size} pixels.", f"It makes {sizes}.")
        request.check()

    @torch.inference_mode()
    def condition(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        request: SampleRequest,
        on_step: OnStep | None = None,
        *,
        key: str = "",
        near: Tensor | None = None,
    ) -> tuple[Conditioning, list[str | None]]:
        """The prompts, and the negative prompt of the request, encoded and taken through the prior; and of each
        prompt the part that did not fit.

        key: sets several draws for the same seeds apart; near: as in `sample_prior`.
        """
        text, cut = self.encode(prompts)
        z = self.sample_prior(text, seeds, request, on_step, key=key, near=near)
        if request.negative is None or not request.negative.strip():
            return Conditioning(text, z), cut
        negative = self.encode([request.negative] * len(prompts))[0]
        reads_text = bool(self.base[1].config.text_dim)  # then the embedding stays as it is: see `conds`
        return Conditioning(
            text, z, negative, None if reads_text else self.sample_prior(negative, seeds, request, key=key)
        ), cut

    @torch.inference_mode()
    def sample_prior(
        self,
        text: TextCond,
        seeds: Sequence[int],
        request: SampleRequest,
        on_step: OnStep | None = None,
        *,
        key: str = "",
        near: Tensor | None = None,
    ) -> Tensor | None:
        """Unit image embeddings (B, E) of encoded prompts; None where there is no prior to draw them. near: of the
        candidates those nearest to these embeddings (B, E) are kept, in the place of those nearest to the texts."""
        entries = self.manifest.of_kind("prior")
        if request.prior == "none":
            reads_text = bool(self.base[1].config.text_dim)
            return None if reads_text else F.normalize(text.pooled, dim=-1)
        if not entries:
            return None
        entry = entries[0]
        sampling = self.sampling(entry, request)
        return sample_prior(self.stages[entry.name], text, seeds, sampling, on_step, key=key, near=near)

    @torch.inference_mode()
    def embed(self, pixels: Tensor) -> Tensor:
        """Unit CLIP image embeddings (B, E) of square pictures (B, 3, S, S) of any size."""
        side, device = self.clip.config.image_size, self.clip.text_projection.device
        small = resize(pixels.to(device, torch.float32), side, side)
        # one at a time: an embedding must not depend on its neighbours
        return torch.cat([F.normalize(self.clip.encode_image(row[None]), dim=-1) for row in small])

    @property
    def base(self) -> tuple[StageEntry, Stage]:
        """The base stage and its entry in the manifest."""
        entry = self.manifest.of_kind("base")[0]
        return entry, self.stages[entry.name]

    def conds(self, conditioning: Conditioning) -> tuple[UNetCond, UNetCond]:
        """The base's condition and what guidance leads away from, of what the base reads (`guided`)."""
        config = self.base[1].config
        texts = (conditioning.text, conditioning.negative) if config.text_dim else (None, None)
        zs = (conditioning.z, conditioning.z_negative) if config.cond_dim else (None, None)
        return guided(texts[0], zs[0], texts[1], zs[1])

    @torch.inference_mode()
    def sample_base(
        self,
        conditioning: Conditioning,
        seeds: Sequence[int],
        request: SampleRequest,
        on_step: OnStep | None = None,
        *,
        key: str = "",
        start: Start | None = None,
        known: InpaintCond | None = None,
    ) -> Tensor:
        """The base's pictures (B, 3, S, S) in [-1, 1]."""
        entry, stage = self.base
        cond, uncond = self.conds(conditioning)
        low = self.manifest.sizes[0]
        with_text = conditioning.text is not None or conditioning.negative is not None
        sampling = self.sampling(entry, request, with_text=with_text)
        return sample_base(stage, low, cond, uncond, seeds, sampling, on_step, key=key, start=start, known=known)

    @torch.inference_mode()
    def upsample(
        self,
        images: Tensor,
        conditioning: Conditioning,
        seeds: Sequence[int],
        request: SampleRequest,
        on_step: OnStep | None = None,
        *,
        kept: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """The base's pictures taken through the upsamplers to the size where the cascade stops."""
        size = request.size or self.manifest.size
        for entry in self.manifest.of_kind("upsampler"):
            if images.shape[-1] >= size:
                break
            images = self.sample_upsampler(entry, images, conditioning, seeds, request, on_step)
            if kept is not None:
                kept[entry.name] = images.float().cpu()
        return images

    def sample_upsampler(
        self,
        entry: StageEntry,
        images: Tensor,
        conditioning: Conditioning,
        seeds: Sequence[int],
        request: SampleRequest,
        on_step: OnStep | None = None,
        *,
        tile: int = 0,
        known: InpaintCond | None = None,
        key: str = "",
    ) -> Tensor:
        """Pictures (B, 3, h, w) taken through one upsampler, which reads the conditioning's text if it was built to."""
        text, negative = (None if t is None else t.pooled for t in (conditioning.text, conditioning.negative))
        return sample_upsampler(
            self.stages[entry.name], images, seeds, self.sampling(entry, request), on_step,
            tile=tile, known=known, key=key, pooled=text, negative=negative,
        )  # fmt: skip

    def sampling(self, entry: StageEntry, request: SampleRequest, *, with_text: bool = True) -> SamplingConfig:
        """How a stage is sampled: its defaults, and what the request gives in their place. with_text: whether the base
        is given a text, and not an image embedding alone."""
        defaults = self.stages[entry.name].defaults
        return (defaults if with_text else defaults.without_text).override(request.of(entry.name))


def blind(name: str) -> tuple[str, str]:
    """What is said where a picture's embedding is asked of a model without an image encoder: sentence, hint."""
    return (
        f"the model {name!r} has no image encoder: its text encoder has never seen a picture.",
        "Start from a picture with --init IMAGE --strength 0.6, or use --model small.",
    )
