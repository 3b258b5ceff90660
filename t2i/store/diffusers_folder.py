"""A folder as diffusers' save_pretrained() writes it: model_index.json, and a folder for each part.

    model_index.json       the class of the pipeline, and the library and class of each part
    <part>/config.json     of a network, with its weights in *.safetensors beside it
    <part>/…               of a scheduler, a tokenizer or a processor

Reading imports neither torch nor diffusers, opens no pickle and runs nothing that the folder brings along. A folder
that asks for more is refused with an InputError that names the file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from t2i.store.pipeline_classes import INDEX, PIPELINES, PipelineClass
from t2i.store.weights_files import find_weights, read_table, remembered_hash, unusable

BESIDE = {
    ("stable_diffusion", "StableDiffusionSafetyChecker"),
    ("deepfloyd_if", "IFSafetyChecker"),
    ("deepfloyd_if", "IFWatermarker"),
    ("unclip", "UnCLIPTextProjModel"),
}
"""Classes that diffusers keeps beside its pipelines, and that are named by the folder they lie in."""
LIBRARIES = ("diffusers", "transformers")
CONFIGS = {
    "scheduler": "scheduler_config.json",
    "tokenizer": "tokenizer_config.json",
    "processor": "preprocessor_config.json",
    "network": "config.json",
}
PAINTERS = ("super_res_last", "unet", "transformer")
"""The part that says the size of the pictures: the last of unCLIP, then the one of all others."""
MAX_SIDE, MAX_SCALE = 8192, 64  # of a picture in pixels, and of a latent cell
LATENT = 128  # cells a side of the latents, for networks that do not say theirs
OWN_CODE = "it asks for code of its own, and none is run"


@dataclass(frozen=True)
class Component:
    """One part of a pipeline. kind: "network", "scheduler", "tokenizer" or "processor". config: what its file says.

    files: everything that is read of it. variant: the word in the names of its weights, such as fp16, or "".
    """

    name: str
    library: str
    cls: str
    kind: str
    config: dict[str, Any] = field(repr=False)
    files: tuple[Path, ...] = field(repr=False)
    variant: str = ""


@dataclass(frozen=True)
class DiffusersFolder:
    """A checked folder. cls: the pipeline's class, a key of `PIPELINES`. extras: what else model_index.json says.

    components: name -> part; parts that are null there are left out.
    """

    path: Path
    cls: str
    components: dict[str, Component]
    extras: dict[str, Any]

    @property
    def takes(self) -> PipelineClass:
        """What its pipeline takes."""
        return PIPELINES[self.cls]

    @property
    def steps(self) -> int:
        """Sampling steps unless told otherwise: FLUX without a guidance embedding is distilled to few."""
        return 4 if self._is_distilled else self.takes.steps

    @property
    def guidance(self) -> float | None:
        """Guidance unless told otherwise; None: it takes none."""
        return None if self._is_distilled else self.takes.guidance

    @property
    def _is_distilled(self) -> bool:
        return self.cls == "FluxPipeline" and not self.components["transformer"].config.get("guidance_embeds")

    @property
    def scale(self) -> int:
        """Pixels a side of one latent cell; 1 for a model that draws pixels themselves."""
        vae = self.components.get("vae") or self.components.get("movq")
        if vae is None:
            return 1
        if "temperal_downsample" in vae.config:
            return 2 ** len(vae.config["temperal_downsample"])
        return 2 ** (len(vae.config.get("encoder_block_out_channels") or vae.config["block_out_channels"]) - 1)

    @property
    def side(self) -> int:
        """Side in pixels of the pictures that its network is made for."""
        net = next((self.components[name] for name in PAINTERS if name in self.components), None)
        cells = net.config.get("sample_size") if net else None
        return (cells if isinstance(cells, int) else LATENT) * self.scale

    @property
    def binned(self) -> bool:
        """Whether its pipeline may draw at the nearest size of its training and resize: it knows such sides only."""
        net = self.components.get("transformer")
        return net is not None and net.config.get("sample_size") in (32, 64, 128)

    def digests(self) -> dict[str, str]:
        """File, relative to the folder -> sha256, of every file that is read."""
        files = [self.path / INDEX, *(file for part in self.components.values() for file in part.files)]
        return {file.relative_to(self.path).as_posix(): remembered_hash(file) for file in files}


def read_diffusers_folder(folder: Path) -> DiffusersFolder:
    """Check a folder and read its configs. Raises InputError (code `bundle`)."""
    where = folder / INDEX
    table = read_table(where)
    cls = table.get("_class_name")
    if not isinstance(cls, str) or cls not in PIPELINES:
        families = sorted({known.family for known in PIPELINES.values()})
        raise unusable(where, f"t2i draws with no {str(cls)[:80]!r}", f"It draws with {', '.join(families)}.")
    components, extras = {}, {}
    for name, value in table.items():
        if name.startswith("_"):
            continue
        if not isinstance(value, list):
            extras[name] = value
        elif value != [None, None]:
            components[name] = _component(folder, name, value)
    found = DiffusersFolder(folder, cls, components, extras)
    try:
        sound = 0 < found.side <= MAX_SIDE and 0 < found.scale <= MAX_SCALE and found.steps > 0
    except (LookupError, TypeError, ValueError, AttributeError):
        sound = False
    if not sound:
        raise unusable(folder, "the configs of its networks do not say what size of pictures they make")
    return found


def _component(folder: Path, name: str, value: list[Any]) -> Component:
    where = folder / INDEX
    if not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII):
        raise unusable(where, f"{name[:80]!r} is no name of a part")
    if len(value) != 2 or not all(isinstance(word, str) for word in value):
        raise unusable(where, f"{name!r} is not a pair of library and class")
    library, cls = value
    known = library in LIBRARIES and re.fullmatch(r"[A-Z]\w*", cls, re.ASCII)
    if not known and (library, cls) not in BESIDE:
        what = f"{name!r} is a {library[:60]}.{cls[:60]}, which is no class of diffusers or transformers"
        raise unusable(where, what)
    place, kind = folder / name, kind_of(cls)
    config = _config(place, kind)
    files = [path for path in sorted(place.iterdir()) if path.suffix in (".json", ".txt", ".model") and path.is_file()]
    variant = ""
    if kind == "network" and cls != "IFWatermarker":
        weights, variant = find_weights(place)
        files = [place / CONFIGS[kind], *weights]
    return Component(name, library, cls, kind, config, tuple(dict.fromkeys(files)), variant)


def kind_of(cls: str) -> str:
    """What a class is, by its name: "network", "scheduler", "tokenizer" or "processor"."""
    if cls.endswith("Scheduler"):
        return "scheduler"
    if re.search(r"Tokenizer(Fast)?$", cls):
        return "tokenizer"
    return "processor" if cls.endswith(("Processor", "FeatureExtractor")) else "network"


def _config(place: Path, kind: str) -> dict[str, Any]:
    """The part's config. Raises InputError where it is missing, or asks for code of its own."""
    if not place.is_dir():
        raise unusable(place, "it is missing")
    if any(place.glob("*.py")):
        raise unusable(next(place.glob("*.py")), OWN_CODE)
    config = read_table(place / CONFIGS[kind])
    for path in sorted(place.glob("*config.json")):
        if "auto_map" in read_table(path):
            raise unusable(path, OWN_CODE)
    if "quantization_config" in config:
        hint = "Take the model as it was before, and say --quantize int8."
        raise unusable(place / CONFIGS[kind], "its weights are stored in a quantised form", hint)
    return config
