"""The pipeline of a bundle: encodes prompts and runs the stages one after the other.

    pipeline = Pipeline.load(Path("weights/small"))
    pictures = pipeline.sample(["a cat in the snow"], seeds=[7]).images      # (1, 3, 256, 256) in [-1, 1]

It prints nothing and writes nothing. A picture depends on weights, prompt, request and seed, never on the other
pictures of its batch. Shapes: B pictures, E embedding width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.engine import OnStep, Samples
from t2i.errors import UsageError
from t2i.media.images import resize
from t2i.nets.clip import Clip
from t2i.sampling import SampleRequest, SamplingConfig, pair
from t2i.stages.base import guided_cond, sample_base
from t2i.stages.dalle import TokenStage
from t2i.stages.gan import GanStage
from t2i.stages.loading import DIFFUSION, PIXELS, build_direct, build_stage, load_encoder, load_net
from t2i.stages.personal import add_changes, load_loras
from t2i.stages.prior import sample_prior
from t2i.stages.stage import GuidedCond, InpaintCond, Stage, Start
from t2i.stages.upsampler import sample_upsampler
from t2i.store.bundle import read_bundle
from t2i.store.compatibility import ENCODERS
from t2i.store.completeness import check_complete, takes_diffusion, takes_images
from t2i.store.lora import Lora
from t2i.store.manifest import Manifest, StageEntry
from t2i.text.cond import TextCond
from t2i.text.encoder import TextEncoder
from t2i.text.memory import TextCache
from t2i.text.words import KnownWords


@dataclass(frozen=True)
class Conditioning:
    """What B pictures should show: text, and image embeddings z (B, E); and what they should not. None: not given.

    direct: what a model without a base is conditioned on, see `TokenStage.condition` and `GanStage.condition`.
    """

    text: TextCond | None = None
    z: Tensor | None = None
    negative: TextCond | None = None
    z_negative: Tensor | None = None
    direct: Tensor | None = None


class Pipeline:
    """A loaded bundle; made by `Pipeline.load`. words: the words of the training captions. direct: what draws the
    smallest picture in the place of a base, by tokens or by a generator; None for a model with a base."""

    def __init__(
        self,
        manifest: Manifest,
        encoder: TextEncoder,
        stages: Mapping[str, Stage],
        clip: Clip | None = None,
        direct: TokenStage | GanStage | None = None,
    ) -> None:
        self.manifest, self.encoder, self.stages, self._clip, self.direct = manifest, encoder, stages, clip, direct
        self.words = KnownWords.from_notes(manifest.notes)
        self.texts = TextCache()

    @classmethod
    def load(
        cls, path: Path | str, device: str = "cpu", dtype: str = "float32", loras: Sequence[Lora] = ()
    ) -> Pipeline:  # fmt: skip
        """Read a bundle and build its networks. Raises InputError for a damaged or incomplete one.

        dtype: of the stages that make pixels; text encoder and prior are small and stay in float32. loras: personal
        models, of which `Bundle.check_load` says whether they are for these weights.
        """
        bundle = read_bundle(path)
        manifest = bundle.manifest
        check_complete(manifest, bundle.configs)
        nets: dict[str, nn.Module] = {}
        encoder: TextEncoder | None = None
        stages: dict[str, Stage] = {}
        personal = load_loras(loras)
        with ThreadPoolExecutor(2) as pool:  # reading, hashing and converting need no interpreter
            loaded = list(pool.map(partial(load_net, bundle), manifest.stages))
        for entry, net in zip(manifest.stages, loaded, strict=True):
            add_changes(net, entry.name, personal)
            net = net.to(device).eval().requires_grad_(False)
            if entry.kind in PIXELS:
                net.to(getattr(torch, dtype)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            nets[entry.kind] = net
            if entry.kind in ENCODERS:
                encoder = load_encoder(bundle, entry, net, personal)
            elif entry.kind in DIFFUSION:
                stages[entry.name] = build_stage(bundle, entry, net)
        clip = nets.get("clip")
        assert encoder is not None and (clip is None or isinstance(clip, Clip))
        pipeline = cls(manifest, encoder, stages, clip, build_direct(manifest, nets, encoder))
        pipeline.words = pipeline.words.adding([each.facts.token for _, each in personal])
        return pipeline

    @property
    def clip(self) -> Clip:
        """CLIP. Raises UsageError for a model without, such as Imagen: its text encoder has never seen a picture."""
        if self._clip is None:
            raise takes_images(self.manifest.name)
        return self._clip

    @torch.inference_mode()
    def encode(self, prompts: Sequence[str]) -> tuple[TextCond, list[str | None]]:
        """Encode B prompts. Returns their text, and for each the part that did not fit, or None."""
        return self.texts.encode(self.encoder, prompts)

    @torch.inference_mode()
    def sample(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        request: SampleRequest | None = None,
        on_step: OnStep | None = None,
    ) -> Samples:
        """One picture for each pair of prompt and seed. Raises UsageError for a request that the bundle cannot meet."""
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
        """The cascade from the base on, one picture a seed. start: where the base starts, if not at noise.

        prompts, truncated: what the samples will say of the prompts.
        """
        self.check(request)
        images = self.sample_base(conditioning, seeds, request, on_step, start=start)
        kept: dict[str, Tensor] = {}
        if request.keep_stages:
            if conditioning.z is not None and self.prior is not None:
                kept[self.prior[0].name] = conditioning.z.float().cpu()
            kept[self.direct.name if self.direct else self.base[0].name] = images.float().cpu()
        images = self.upsample(
            images, conditioning, seeds, request, on_step, kept=kept if request.keep_stages else None
        )
        unknown = [self.words.unknown(prompt) for prompt in prompts] or [[] for _ in seeds]
        return Samples(images.float().cpu(), kept, list(truncated) or [None] * len(seeds), unknown)

    def check(self, request: SampleRequest) -> None:
        """Raises UsageError for an unknown size, prior, sampler or threshold, or for what only a base can do where
        there is none."""
        if (size := request.size) and size not in self.manifest.sizes:
            sizes = ", ".join(map(str, self.manifest.sizes))
            name = self.manifest.name
            raise UsageError(f"the model {name!r} makes no pictures of {size} pixels.", f"It makes {sizes}.")
        if self.direct is not None and ((request.negative or "").strip() or request.prior == "none"):
            raise takes_diffusion(self.manifest.name, "a negative prompt" if request.negative else 'prior="none"')
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
        """Encode the prompts and the request's negative prompt and run the prior on them.

        Returns the conditioning, and for each prompt the part that did not fit, or None. key, near: as in
        `sample_prior`.
        """
        text, cut = self.encode(prompts)
        if self.direct is not None:
            direct, cut_here = self.direct.condition(prompts, text)
            return Conditioning(text, direct=direct), cut if cut_here is None else cut_here
        negative, z_negative = None, None
        if request.negative and request.negative.strip():
            negative = self.encode([request.negative] * len(prompts))[0]
            if request.prior == "none":
                z_negative = self.sample_prior(negative, seeds, request)
        z = self.sample_prior(text, seeds, request, on_step, key=key, near=near, negative=negative)
        return Conditioning(text, z, negative, z_negative), cut

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
        negative: TextCond | None = None,
    ) -> Tensor | None:
        """Unit image embeddings (B, E) of encoded prompts; None without a prior.

        key: gives several draws for the same seeds different noise. near (B, E): keep the candidates nearest to these
        embeddings instead of those nearest to the texts. negative: encoded prompts of what not to draw.
        """
        if request.prior == "none":
            reads_text = bool(self.base[1].config.text_dim)
            return None if reads_text else F.normalize(text.pooled, dim=-1)
        if self.prior is None:
            return None
        entry, stage = self.prior
        return sample_prior(
            stage, text, seeds, self.sampling(entry, request), on_step, key=key, near=near, negative=negative
        )

    @torch.inference_mode()
    def embed(self, pixels: Tensor) -> Tensor:
        """Unit CLIP image embeddings (B, E) of square pictures (B, 3, S, S) in [-1, 1], of any size S."""
        side, device = self.clip.config.image_size, self.clip.text_projection.device
        small = resize(pixels.to(device, torch.float32), side, side)
        # one at a time: an embedding must not depend on the rest of its batch
        return torch.cat([F.normalize(self.clip.encode_image(row[None]), dim=-1) for row in small])

    @property
    def base(self) -> tuple[StageEntry, Stage]:
        """The base stage, with its entry in the manifest. Raises UsageError for a model that has none."""
        if self.direct is not None:
            raise takes_diffusion(self.manifest.name, "starting from a picture")
        entry = self.manifest.of_kind("base")[0]
        return entry, self.stages[entry.name]

    @property
    def prior(self) -> tuple[StageEntry, Stage] | None:
        """The prior stage, with its entry in the manifest; None for a model without one."""
        entries = self.manifest.of_kind("prior")
        return (entries[0], self.stages[entries[0].name]) if entries else None

    def guided_cond(self, conditioning: Conditioning) -> GuidedCond:
        """The conditions of the base, from what it can read: see `t2i.stages.base.guided_cond`."""
        config = self.base[1].config
        texts = (conditioning.text, conditioning.negative) if config.text_dim else (None, None)
        zs = (conditioning.z, conditioning.z_negative) if config.cond_dim else (None, None)
        return guided_cond(texts[0], zs[0], texts[1], zs[1])

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
        """The smallest pictures (B, 3, S, S) in [-1, 1]. key, start, known: as in `Stage.run`, for a base."""
        if self.direct is not None and start is None and known is None:
            assert conditioning.direct is not None, "such a model draws from texts alone"
            sampling = self.direct.defaults.override(request.of(self.direct.name))
            return self.direct.draw(conditioning.direct, seeds, sampling, on_step)
        entry, stage = self.base
        low = self.manifest.sizes[0]
        with_text = conditioning.text is not None or conditioning.negative is not None
        sampling = self.sampling(entry, request, with_text=with_text)
        cond = self.guided_cond(conditioning)
        return sample_base(stage, low, cond, seeds, sampling, on_step, key=key, start=start, known=known)

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
        """Run the upsamplers on the base's pictures up to the request's size. kept: filled with each one's output."""
        side = max(pair(request.size or self.manifest.size))
        for entry in self.manifest.of_kind("upsampler"):
            if images.shape[-1] >= side:
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
        key: str = "",
    ) -> Tensor:
        """Run one upsampler on pictures (B, 3, h, w). tile, key: as in `t2i.stages.upsampler`."""
        text, negative = (None if t is None else t.pooled for t in (conditioning.text, conditioning.negative))
        return sample_upsampler(
            self.stages[entry.name], images, seeds, self.sampling(entry, request), on_step,
            tile=tile, key=key, pooled=text, negative=negative, z=conditioning.z,
        )  # fmt: skip

    def sampling(self, entry: StageEntry, request: SampleRequest, *, with_text: bool = True) -> SamplingConfig:
        """The stage's defaults, overridden by the request. with_text: whether the base is given a text, and not an
        image embedding alone."""
        defaults = self.stages[entry.name].defaults.for_drawing(with_text=with_text, quality=request.quality)
        return defaults.override(request.of(entry.name))
