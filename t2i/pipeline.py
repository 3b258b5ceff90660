"""The engine: encodes the prompts once and chains the stages that the bundle's manifest names.

    pipeline = Pipeline.load(Path("weights/small"))
    pictures = pipeline.sample(["a cat in the snow"], seeds=[7]).images      # (1, 3, 256, 256) in [-1, 1]

It prints nothing and writes nothing. A picture is a function of (weights, prompt, settings, seed), never of
its neighbours in the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from t2i.diffusion.process import from_config
from t2i.diffusion.schedule import sigmas
from t2i.errors import InputError, T2IError, UsageError
from t2i.nets.clip import Clip, ClipConfig
from t2i.nets.prior import PriorConfig, build_prior
from t2i.nets.unet import UNet, UNetConfig
from t2i.nets.upsampler import Upsampler, UpsamplerConfig
from t2i.stages.base import base_cond, sample_base
from t2i.stages.prior import sample_prior
from t2i.stages.stage import Dials, OnStep, Stage
from t2i.stages.upsampler import sample_upsampler
from t2i.store.bundle import Bundle, Manifest, StageEntry, read_bundle
from t2i.text.cond import TextCond
from t2i.text.tokenizer import Tokenizer
from t2i.text.words import Words


@dataclass(frozen=True)
class SampleSettings:
    """What differs from the bundle's defaults. steps and guidance: stage name -> value. size: where the
    cascade stops. sampler and threshold (percentile in (0, 1], cap) are the base's. negative: what not to
    draw; it takes the place of "no text" in the base's guidance."""

    size: int | None = None
    steps: Mapping[str, int] = field(default_factory=dict)
    guidance: Mapping[str, float] = field(default_factory=dict)
    sampler: str | None = None
    negative: str | None = None
    threshold: tuple[float, float] | None = None
    keep_stages: bool = False


@dataclass(frozen=True)
class Samples:
    """images (B, 3, H, W) in [-1, 1]; stages: name -> what each stage made, if kept; truncated: the part of
    each prompt that did not fit, or None; unknown: the words of each prompt that the training never said."""

    images: Tensor
    stages: dict[str, Tensor]
    truncated: list[str | None]
    unknown: list[list[str]]


class Pipeline:
    """A loaded bundle. Built by `Pipeline.load`. words: what the training captions said."""

    def __init__(self, manifest: Manifest, clip: Clip, tokenizer: Tokenizer, stages: Mapping[str, Stage]) -> None:
        self.manifest, self.clip, self.tokenizer, self.stages = manifest, clip, tokenizer, stages
        self.words = Words.from_notes(manifest.notes)

    @classmethod
    def load(cls, path: Path | str, device: str = "cpu", dtype: str = "float32") -> Pipeline:
        """Read a bundle and build its networks. Raises InputError for a damaged or incomplete one.

        dtype is that of the stages that draw pixels; text encoder and prior are small, and stay in float32.
        """
        bundle = read_bundle(path)
        nets: dict[str, nn.Module] = {}
        stages: dict[str, Stage] = {}
        for entry in bundle.manifest.stages:
            net = _load_net(bundle, entry).to(device).eval().requires_grad_(False)
            if entry.kind in PIXELS:
                net.to(getattr(torch, dtype)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            nets[entry.kind] = net
            if entry.kind != "clip":
                stages[entry.name] = _stage(bundle, entry, net)
        _check_whole(bundle.manifest, nets)
        clip = nets["clip"]
        assert isinstance(clip, Clip)
        tokenizer = Tokenizer.parse(bundle.tokenizer_json() or "", str(bundle.path / "tokenizer.json"))
        if tokenizer.vocab != clip.config.vocab:
            entries = f"{tokenizer.vocab} entries and the text encoder reads {clip.config.vocab}"
            raise InputError(f"the vocabulary of {bundle.path} has {entries}.", code="mismatch")
        return cls(bundle.manifest, clip, tokenizer, stages)

    @torch.inference_mode()
    def encode(self, prompts: Sequence[str]) -> tuple[TextCond, list[str | None]]:
        """The prompts encoded, (B, ...), and of each the part that did not fit, or None.

        Each distinct prompt is encoded once, alone, so that its numbers do not depend on the others.
        """
        distinct = list(dict.fromkeys(prompts))
        device = self.clip.text_projection.device
        ids, cut = self.tokenizer.encode(distinct, self.clip.config.context)
        outs = [self.clip.encode_text(row[None].to(device)) for row in ids]
        tokens, mask, pooled = (torch.cat([getattr(o, k) for o in outs]) for k in ("tokens", "mask", "pooled"))
        row = {prompt: i for i, prompt in enumerate(distinct)}
        rows = [row[prompt] for prompt in prompts]
        return TextCond(tokens, mask, pooled).select(rows), [cut[i] for i in rows]

    @torch.inference_mode()
    def sample(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        settings: SampleSettings | None = None,
        on_step: OnStep | None = None,
    ) -> Samples:
        """One picture a (prompt, seed) pair. Raises UsageError for a size the bundle does not have."""
        assert len(prompts) == len(seeds) > 0, "one seed a prompt"
        settings = settings or SampleSettings()
        size = settings.size or self.manifest.sizes[-1]
        if size not in self.manifest.sizes:
            sizes = ", ".join(map(str, self.manifest.sizes))
            name = self.manifest.name
            raise UsageError(f"the model {name!r} makes no pictures of {size} pixels.", f"It makes {sizes}.")
        text, cut = self.encode(prompts)
        negative = self.encode([settings.negative] * len(prompts))[0] if settings.negative else None
        z = z_negative = images = None
        kept: dict[str, Tensor] = {}
        for entry in self.manifest.stages:
            if entry.kind == "clip" or (images is not None and images.shape[-1] >= size):
                continue
            stage, dials = self.stages[entry.name], self.dials(entry, settings)
            extra = entry.defaults.extra
            if entry.kind == "prior":
                best_of = int(extra.get("best_of", 1))
                made = z = sample_prior(stage, text, seeds, dials, best_of, on_step)
                if negative is not None:
                    z_negative = sample_prior(stage, negative, seeds, dials, best_of)
            elif entry.kind == "base":
                reads_text = bool(stage.config.text_dim)
                cond = base_cond(text if reads_text else None, z)
                if negative is None:
                    uncond = base_cond(text if reads_text else None, z, keep=False)
                else:
                    uncond = base_cond(negative if reads_text else None, z_negative)
                low = self.manifest.sizes[0]
                made = images = sample_base(stage, low, cond, uncond, seeds, dials, on_step)
            else:
                assert images is not None, "the manifest orders the base before the upsamplers"
                level = float(extra.get("noise", 0.0))
                made = images = sample_upsampler(stage, images, seeds, dials, level, on_step)
            if settings.keep_stages:
                kept[entry.name] = made.float().cpu()
        assert images is not None
        unknown = [self.words.unknown(prompt) for prompt in prompts]
        return Samples(images.float().cpu(), kept, cut, unknown)

    def dials(self, entry: StageEntry, settings: SampleSettings) -> Dials:
        """How a stage is sampled under `settings`."""
        dials = self.stages[entry.name].dials.changed(
            steps=settings.steps.get(entry.name), guidance=settings.guidance.get(entry.name)
        )
        if entry.kind == "base":
            dials = dials.changed(sampler=settings.sampler, threshold=settings.threshold)
        return dials


NETS: dict[str, Callable[[dict[str, Any]], nn.Module]] = {
    "clip": lambda config: Clip(ClipConfig.from_dict(config)),
    "prior": lambda config: build_prior(PriorConfig.from_dict(config)),
    "base": lambda config: UNet(UNetConfig.from_dict(config)),
    "upsampler": lambda config: Upsampler(UpsamplerConfig.from_dict(config)),
}
"""How each kind of stage builds its network from its config."""
PIXELS = ("base", "upsampler")


class Unfilled(TorchFunctionMode):
    """Networks built in it get no first weights, which the file's replace at once.

    On the meta device alone a single `normal_` imports torch._dynamo and sympy: 1.4 s of a cold start.
    """

    FILLS = frozenset(
        ["normal_", "trunc_normal_", "uniform_", "kaiming_uniform_", "kaiming_normal_", "xavier_uniform_"]
        + ["zero_", "zeros_", "ones_", "fill_", "constant_"]
    )

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in self.FILLS:
            return args[0] if args else kwargs["tensor"]  # nn.init passes on everything by name
        return func(*args, **kwargs)


def _load_net(bundle: Bundle, entry: StageEntry) -> nn.Module:
    config, state = bundle.load_stage(entry.name)
    try:
        with torch.device("meta"), Unfilled():
            net = NETS[entry.kind](config["net"])
        net.load_state_dict(state, assign=True)
    except (T2IError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise _strange(bundle, entry, "its weights and its config.json do not belong together", error) from error
    return net


def _stage(bundle: Bundle, entry: StageEntry, net: nn.Module) -> Stage:
    d, config = entry.defaults, bundle.configs[entry.name]
    try:
        interval = tuple(d.extra["interval"]) if d.extra.get("interval") else None
        dials = Dials().changed(
            steps=d.steps,
            guidance=d.guidance,
            sampler=d.sampler,
            schedule=d.schedule,
            threshold=d.threshold,
            interval=interval,
        )
        process = from_config(config["process"])
        sigmas(dials.schedule, process, dials.steps)  # an unknown schedule is seen here, not at the first picture
        return Stage(entry.name, net, process, config["prediction"], dials)
    except (T2IError, LookupError, TypeError, ValueError) as error:
        raise _strange(bundle, entry, "its settings cannot be understood", error) from error


def _strange(bundle: Bundle, entry: StageEntry, what: str, error: Exception) -> InputError:
    why = error.message if isinstance(error, T2IError) else str(error).strip().split("\n")[-1].strip()
    hint = f"It says: {why[:200]}" if why else "Fetch or train this model again."
    return InputError(f"{bundle.path / entry.folder} cannot be used: {what}.", hint, "bundle")


def _check_whole(manifest: Manifest, nets: Mapping[str, nn.Module]) -> None:
    """Raise InputError unless the stages that are there can draw a prompt."""
    base = nets.get("base")
    missing = next((kind for kind in ("clip", "base") if kind not in nets), None)
    if missing is None and isinstance(base, UNet) and not base.cond.config.text_dim and "prior" not in nets:
        missing = "prior"  # nothing would tell the base what to draw
    if missing:
        hint = f"Train it first: t2i train {missing} --out …"
        raise InputError(f"the model {manifest.name!r} is not complete: it has no {missing}.", hint, "bundle")
