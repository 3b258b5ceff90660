"""A model that is not ours, seen as a bundle is: stages with defaults, sizes, a digest.

The commands read `manifest`, `configs`, `digest` and what else the two have in common of a `Bundle` and of an
`OpenModel` alike; see `t2i/store/models.py`.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from t2i.errors import UsageError
from t2i.sampling import SamplingConfig, Size
from t2i.store.diffusers_folder import DiffusersFolder, read_diffusers_folder
from t2i.store.manifest import Manifest, StageEntry
from t2i.store.pulled import check_lock

FAMILY = "diffusers"
MAX_SIDE = 8192
#: option or command -> what it takes a model to do
FEATURES = {
    "--init": "start from a picture",
    "t2i inpaint": "repaint a part of a picture",
    "t2i inpaint without a prompt": "remove what is masked without being told what to paint",
    "--mask-text": "find things in a picture",
    "t2i upscale": "enlarge pictures",
    "t2i vary": "make variations of a picture",
    "--rerank": "compare pictures with texts",
    "--prior": "draw without its prior",
    "--prior-best-of": "choose among embeddings",
}
LATENT = 128  # cells a side of the latents, for networks that do not say theirs


@dataclass(frozen=True)
class OpenModel:
    """A checkpoint in diffusers' layout. name: what it is called in records and file names."""

    path: Path
    name: str
    folder: DiffusersFolder

    @cached_property
    def manifest(self) -> Manifest:
        """Its stages, with the defaults of its pipeline: a text encoder and a base."""
        takes = self.folder.takes
        base = SamplingConfig(steps=takes.steps, guidance=takes.guidance)
        stages = (StageEntry("text", "text", "text"), StageEntry("base", "base", "base", base))
        return Manifest(FAMILY, self.name, stages, (self.side,), tokenizer=None, tool=FAMILY)

    @property
    def configs(self) -> dict[str, dict[str, Any]]:
        """What `Bundle.configs` says of the same stages: their widths."""
        return {"text": {"widths": {}}, "base": {"widths": {"text_dim": 1}}}

    @cached_property
    def files(self) -> dict[str, str]:
        """File, relative to the folder -> sha256. The first call reads every file.

        Raises InputError (code ``bundle``) for a model of the hub whose files are not those that were pulled.
        """
        digests = self.folder.digests()
        check_lock(self.path, digests)
        return digests

    @cached_property
    def digest(self) -> str:
        """Identifies weights, configs and tokenizers: sha256 over the sorted hashes of the files."""
        return hashlib.sha256(json.dumps(sorted(self.files.items())).encode()).hexdigest()

    def weights(self, stages: list[str]) -> dict[str, str]:
        """sha256 of the weights that take part, by file."""
        return {name: digest for name, digest in self.files.items() if name.endswith(".safetensors")}

    @property
    def scale(self) -> int:
        """Pixels a side of one latent cell; 1 for a model that draws pixels themselves."""
        vae = self.folder.components.get("vae")
        if vae is None:
            return 1
        if "temperal_downsample" in vae.config:
            return 2 ** len(vae.config["temperal_downsample"])
        return 2 ** (len(vae.config.get("encoder_block_out_channels") or vae.config["block_out_channels"]) - 1)

    @property
    def side(self) -> int:
        """Side in pixels of the pictures if no size is asked for."""
        net = self.folder.components.get("unet") or self.folder.components.get("transformer")
        cells = net.config.get("sample_size") if net else None
        return (cells if isinstance(cells, int) else LATENT) * self.scale

    @property
    def binned(self) -> bool:
        """Whether its pipeline may draw at the nearest size of its training and resize: it knows such sides only."""
        net = self.folder.components.get("transformer")
        return net is not None and net.config.get("sample_size") in (32, 64, 128)

    def read_size(self, text: str) -> Size:
        """``512`` or ``768x512`` as a size. Raises UsageError for one that the model cannot draw."""
        found = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text, re.ASCII)
        if not found:
            raise UsageError(f"--size {text!r} is no size.", "Write 512, or 768x512: width, then height.")
        width, height = int(found[1]), int(found[2] or found[1])
        step = max(8, self.scale * self.folder.takes.patch)
        if width % step or height % step or not 0 < min(width, height) <= max(width, height) <= MAX_SIDE:
            what = f"--size {text}: the sides of a picture of {self.name!r} are multiples of {step} up to {MAX_SIDE}."
            raise UsageError(what, f"It was made for {self.side}.")
        return width if width == height else (width, height)

    def check_options(self, options: dict[str, str]) -> None:
        """Raise UsageError for a setting that its pipeline does not take."""
        takes = self.folder.takes
        dials = ["size", "steps", "sampler"]
        dials += ["guidance"] if takes.guidance is not None else []
        dials += ["negative"] if takes.negative else []
        for name, value in options.items():
            if value and name not in dials:
                can = ", ".join(f"--{dial}" for dial in dials)
                raise UsageError(f"--{name.replace('_', '-')}: {takes.family} takes none.", f"{self.name} takes {can}.")

    def check_can(self, feature: str) -> None:
        """Raise UsageError unless the model can do it. feature: an option or a command, a key of `FEATURES`."""
        takes = self.folder.takes
        offers = {"--init": takes.init, "t2i inpaint": takes.inpaint}
        if not offers.get(feature):
            can = ["draw from prompts", *(FEATURES[name] for name, offered in offers.items() if offered)]
            raise UsageError(f"{feature}: {takes.family} cannot {FEATURES[feature]}.", f"It can {' and '.join(can)}.")


def read_open_model(path: Path, name: str = "") -> OpenModel:
    """Check a folder. name: None to take the folder's. Raises InputError (code ``bundle``)."""
    return OpenModel(path, name or path.resolve().name, read_diffusers_folder(path))
