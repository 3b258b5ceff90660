"""A model that is not ours, seen as a bundle is: stages with defaults, sizes, a digest.

The commands read `manifest`, `configs`, `digest` and what else the two have in common of a `Bundle` and of an
`OpenModel` alike; see `t2i/store/models.py`. A cascade that is published in several folders is one model here.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from t2i.errors import UsageError
from t2i.sampling import SAMPLERS, SamplingConfig, Size
from t2i.store.diffusers_folder import MAX_SIDE, DiffusersFolder, read_diffusers_folder
from t2i.store.load_options import LoadOptions
from t2i.store.manifest import Manifest, StageEntry
from t2i.store.pipeline_classes import PIPELINES
from t2i.store.pulled import check_lock

FAMILY = "diffusers"
UNCLIP, IF_SUPER = "UnCLIPPipeline", "IFSuperResolutionPipeline"
UNCLIP_VARIATION = "UnCLIPImageVariationPipeline"
JOINT_TEXT = "CLIPTextModelWithProjection"  # whose embeddings of texts lie among those of pictures
OURS = "small can, and models that are trained like it."
FEATURES = {
    "t2i sample": ("draw from prompts", "Name one that draws; a + joins an upscaler to it."),
    "--init": ("start from a picture", "Stable Diffusion and FLUX can, among others."),
    "t2i inpaint": ("repaint a part of a picture", "Stable Diffusion and FLUX can, among others."),
    "t2i inpaint without a prompt": ("remove what is masked without being told what to paint", "Say what to paint."),
    "--mask-text": ("find things in a picture", "Give a --box or a --mask."),
    "t2i upscale": ("enlarge pictures", "Upscalers can, such as sd-x4-upscaler, and models of ours, such as small."),
    "t2i vary": ("make variations of a picture", "karlo-variations, Kandinsky 2.2 and small can."),
    "--from-text": ("move a picture from one text to another", "karlo-variations, Kandinsky 2.2 and small can."),
    "--rerank": ("compare pictures with texts", "Draw more with -n and choose, or score them with t2i score."),
    "--prior": ("draw without its prior", OURS),
    "--prior-best-of": ("choose among embeddings", OURS),
}
"""Option or command -> what it takes a model to do, and what to use in place of one that cannot."""


@dataclass(frozen=True)
class OpenModel:
    """A checkpoint in diffusers' layout, in one folder or several. name: what it is called in records and file names.

    prior: makes the image embedding that `base` reads, where there is one. base: None for a model that only enlarges.
    """

    name: str
    prior: DiffusersFolder | None
    base: DiffusersFolder | None
    upsamplers: tuple[DiffusersFolder, ...]

    @property
    def folders(self) -> dict[str, DiffusersFolder]:
        """Stage -> the folder that makes it, in the order in which they run. unCLIP has all its stages in one."""
        found = {"prior": self.prior, "base": self.base}
        ups = dict(zip(self.upsampler_names, self.upsamplers, strict=True))
        return {name: folder for name, folder in found.items() if folder} | ups

    @property
    def main(self) -> DiffusersFolder:
        """The base, or the first upsampler of a model that only enlarges."""
        return self.base or self.upsamplers[0]

    @property
    def main_stage(self) -> str:
        """The name of its stage."""
        return "base" if self.base else self.upsampler_names[0]

    @property
    def has_stages_inside(self) -> bool:
        """Whether its base is a pipeline with upsamplers of its own, as Karlo's."""
        return self.main.cls in (UNCLIP, UNCLIP_VARIATION)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Sides in pixels: of the base, and after each upsampler; without a base, of no picture."""
        if self.base is None:
            return ()
        sides = [self.base.side]
        for folder in self.upsamplers:
            sides.append(sides[-1] * folder.takes.scale)
        return tuple(sides)

    @property
    def upsampler_names(self) -> list[str]:
        """upsampler256 and so on, by the side of what each makes; upsampler, upsampler2 … without a base."""
        if self.base is None:
            return [f"upsampler{i or ''}" for i in range(len(self.upsamplers))]
        return [f"upsampler{side}" for side in self.sizes[1:]]

    @cached_property
    def manifest(self) -> Manifest:
        """Its stages, with the defaults of their pipelines."""
        stages = [StageEntry("text", "text", "text")]
        for name, folder in self.folders.items():
            kind = "upsampler" if name.startswith("upsampler") else name
            defaults = SamplingConfig(folder.steps, folder.guidance)
            if folder.cls == UNCLIP:
                stages.append(StageEntry("prior", "prior", "prior", SamplingConfig(25, 4.0)))
            stages.append(StageEntry(name, kind, name, defaults))
            if self.has_stages_inside and name == "base":
                stages.append(StageEntry("upsampler", "upsampler", "upsampler", SamplingConfig(7)))
        return Manifest(FAMILY, self.name, tuple(stages), self.sizes, tokenizer=None, tool=FAMILY)

    @property
    def configs(self) -> dict[str, dict[str, Any]]:
        """What `Bundle.configs` says of the same stages: widths, and the sizes that upsamplers read and make."""
        configs: dict[str, dict[str, Any]] = {entry.name: {"widths": {"text_dim": 1}} for entry in self.manifest.stages}
        for i, (name, folder) in enumerate(zip(self.upsampler_names, self.upsamplers, strict=True)):
            low = self.sizes[i] if self.base else 1
            size = self.sizes[i + 1] if self.base else folder.takes.scale
            configs[name]["widths"] |= {"low": low, "size": size}
        return configs

    @cached_property
    def files(self) -> dict[str, str]:
        """File, relative to its folder -> sha256; of several folders, after the stage. The first call reads them.

        Raises InputError (code `bundle`) for a model of the hub whose files are not those that were pulled.
        """
        found: dict[str, str] = {}
        for stage, folder in self.folders.items():
            digests = folder.digests()
            check_lock(folder.path, digests)
            found |= digests if len(self.folders) == 1 else {f"{stage}/{name}": d for name, d in digests.items()}
        return found

    @cached_property
    def digest(self) -> str:
        """Identifies weights, configs and tokenizers: sha256 over the sorted hashes of the files."""
        return hashlib.sha256(json.dumps(sorted(self.files.items())).encode()).hexdigest()

    def weights(self, stages: list[str], *, text: bool = True) -> dict[str, str]:
        """sha256 of the weights of `stages`, by file. Each stage has its own text encoder."""
        several = len(self.folders) > 1
        return {
            name: digest
            for name, digest in self.files.items()
            if name.endswith(".safetensors") and (not several or name.split("/")[0] in stages)
        }

    @property
    def samplers(self) -> tuple[str, ...]:
        """The samplers that can take the place of the base's own."""
        scheduler = self.main.components.get("scheduler")
        if scheduler is None or self.base is None:
            return ()
        if scheduler.cls.startswith("FlowMatch"):
            return ("euler", "heun") if self.base.cls == "StableDiffusion3Pipeline" else ("euler",)
        return ("dpmpp_2m", "unipc") if scheduler.config.get("use_flow_sigmas") else SAMPLERS

    def read_size(self, text: str) -> Size:
        """`512` or `768x512` as a size. Raises UsageError for one that the model cannot draw."""
        if text in map(str, self.sizes):
            return int(text)
        if len(self.folders) > 1 + (self.prior is not None) or self.base is None or self.has_stages_inside:
            made = ", ".join(map(str, self.sizes))
            raise UsageError(f"--size {text}: the model {self.name!r} stops at {made}.", "Choose one of these.")
        found = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text, re.ASCII)
        if not found:
            raise UsageError(f"--size {text!r} is no size.", "Write 512, or 768x512: width, then height.")
        width, height = int(found[1]), int(found[2] or found[1])
        step = max(8, self.base.scale * self.base.takes.patch)
        if width % step or height % step or not 0 < min(width, height) <= max(width, height) <= MAX_SIDE:
            what = f"--size {text}: the sides of a picture of {self.name!r} are multiples of {step} up to {MAX_SIDE}."
            raise UsageError(what, f"It was made for {self.sizes[0]}.")
        return width if width == height else (width, height)

    def check_options(self, options: dict[str, str]) -> None:
        """Raise UsageError for a setting that its pipelines do not take."""
        dials = ["size", "steps"]
        dials += ["sampler"] if self.samplers else []
        dials += ["guidance"] if self.main.guidance is not None else []
        dials += ["negative"] if self.main.takes.negative else []
        can = ", ".join(f"--{dial}" for dial in dials)
        for name, value in options.items():
            if value and name not in dials:
                what = f"--{name.replace('_', '-')}: {self.main.takes.family} takes none."
                raise UsageError(what, f"{self.name} takes {can}.")
        if options.get("sampler") and options["sampler"] not in self.samplers:
            what = f"--sampler {options['sampler']}: {self.main.takes.family} cannot be sampled with it."
            raise UsageError(what, f"{self.name} takes {', '.join(self.samplers)}.")

    def check_load(self, options: LoadOptions) -> None:
        """Raise UsageError for a way of loading that its pipelines do not know."""
        if personal := next((lora for lora in options.loras if lora.personal), None):
            what = f"--lora {personal.path}: it is a personal model for a model of ours, not for {self.name}."
            raise UsageError(what, "Name its model, as in --model small.")
        if options.loras and not self.main.takes.lora:
            families = sorted({takes.family for takes in PIPELINES.values() if takes.lora})
            raise UsageError(f"--lora: {self.main.takes.family} takes none.", f"LoRAs are for {', '.join(families)}.")

    @property
    def _sees_pictures(self) -> bool:
        """Whether it makes the image embedding of a picture, and draws from that."""
        if self.base is None:
            return False
        has_eye = self.prior is not None and {"image_encoder", "image_processor"} <= set(self.prior.components)
        return self.base.takes.role == "variation" or (self.base.takes.role == "base" and has_eye)

    @property
    def _reads_and_sees(self) -> bool:
        """Whether it also makes the embedding of a text, in the same space."""
        parts = (self.prior or self.main).components
        text = parts.get("text_encoder")
        return self._sees_pictures and "tokenizer" in parts and text is not None and text.cls == JOINT_TEXT

    def check_can(self, feature: str) -> None:
        """Raise UsageError unless the model can do it. feature: an option or a command, a key of `FEATURES`."""
        offers = {
            "t2i sample": self.base is not None and self.base.takes.role == "base",
            "--init": self.base is not None and self.base.takes.init is not None,
            "t2i inpaint": self.base is not None and self.base.takes.inpaint is not None,
            "t2i upscale": bool(self.upsamplers),
            "t2i vary": self._sees_pictures,
            "--from-text": self._reads_and_sees,
        }
        if not offers.get(feature):
            what, instead = FEATURES[feature]
            *others, last = (FEATURES[name][0] for name, offered in offers.items() if offered)
            can = f"{', '.join(others)} and {last}" if others else last
            raise UsageError(f"{feature}: {self.name} cannot {what}.", f"{instead} It can {can}.")


def read_open_model(paths: Sequence[Path], name: str = "") -> OpenModel:
    """Check one folder, or those of a cascade in any order. name: by default the folders'.

    Raises InputError (code `bundle`), UsageError for folders that make no model together.
    """
    folders = [read_diffusers_folder(path) for path in paths]
    name = name or "+".join(path.resolve().name for path in paths)
    of_role = {
        role: [folder for folder in folders if folder.takes.role in roles]
        for role, roles in {
            "prior": ("prior",),
            "base": ("base", "inpaint", "variation"),
            "upsampler": ("upsampler",),
        }.items()
    }
    for role in ("prior", "base"):
        if len(of_role[role]) > 1:
            raise UsageError(f"{name} are two models.", "Name them one at a time; + joins the parts of a cascade.")
    prior, base = (of_role[role][0] if of_role[role] else None for role in ("prior", "base"))
    if base is not None and base.takes.embedded and prior is None:
        what = f"{base.takes.family} draws from image embeddings, and {name} has no prior to make them."
        raise UsageError(what, f"Name its prior, too: --model PRIOR+{name}")
    if prior is not None and (base is None or not base.takes.embedded):
        what = f"{name} has a prior and nothing that draws from its embeddings."
        raise UsageError(what, "Name the decoder, too: --model PRIOR+DECODER")
    ups = sorted(of_role["upsampler"], key=lambda folder: folder.cls != IF_SUPER)  # IF's own before those for any
    return OpenModel(name, prior, base, tuple(ups))
