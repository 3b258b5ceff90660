"""A bundle: one folder that holds a whole model.

    bundle.json            the manifest: family, stages, sizes, defaults, tool version, sha256 of every file
    tokenizer.json         the vocabulary
    README.md              the card: data, recipe, hours, scores, faults, attributions
    <stage>/config.json    how to build the stage's network, and the widths by which stages fit together
    <stage>/model.safetensors   the weights: float16 on disk, float32 once loaded

A stage may lie in another bundle, which the manifest names (`source`) and whose files it pins by their sha256; see
`store/shared_stages.py`.

Reading is strict: unknown keys, missing files, wrong hashes, broken or non-finite weights are InputErrors that name the
file. torch is imported only when weights are read or written.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2i.errors import InputError, UsageError
from t2i.sampling import Size
from t2i.store.bundle_files import as_text, present, read_configs, read_file, read_manifest
from t2i.store.compatibility import DIRECT, ENCODERS, check_compatible
from t2i.store.completeness import check_complete, takes_diffusion
from t2i.store.load_options import LoadOptions
from t2i.store.manifest import CARD, MANIFEST, TOKENIZER, Manifest, broken, entry_table
from t2i.store.personal import check_fits
from t2i.store.shared_stages import shared_places
from t2i.store.tensors import Layout, check_safetensors, decode

if TYPE_CHECKING:
    from torch import Tensor

FROM_PICTURES = ("--from-text", "--init", "--mask-text", "t2i inpaint", "t2i inpaint without a prompt", "t2i vary")
"""What starts from a picture, which takes a base."""
Stage = tuple[dict[str, Any], "dict[str, Tensor]"]
"""Config.json and weights."""


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk. Manifest and configs have been read and checked; weights are read on demand.

    configs: stage name -> its config.json. shared: folder of a shared stage -> the bundle that it lies in.
    """

    path: Path
    manifest: Manifest
    configs: dict[str, dict[str, Any]]
    shared: dict[str, Path] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Identifies weights and defaults: sha256 over the sorted file hashes and the stages' tables.

        Left out are the card and where a shared stage lies, which change no picture.
        """
        stages = [entry_table(replace(entry, source=None)) for entry in self.manifest.stages]
        files = sorted((name, digest) for name, digest in self.manifest.files.items() if name != self.manifest.card)
        text = json.dumps([files, stages], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def load_stage(self, name: str) -> Stage:
        """(config, state dict in float32) of a stage, verified. Raises InputError; KeyError without the stage."""
        entry = self.manifest.stage(name)
        relative = entry.files[1]
        place = self.place(relative)
        return self.configs[name], decode(read_file(place, relative, self.manifest.files), str(place / relative))

    def layout(self, name: str) -> dict[str, Layout]:
        """Tensor -> type and shape, of a stage's weights. The file is verified, the tensors are not built. Raises
        InputError; KeyError without the stage."""
        relative = self.manifest.stage(name).files[1]
        place = self.place(relative)
        return check_safetensors(read_file(place, relative, self.manifest.files), str(place / relative))

    def place(self, relative: str) -> Path:
        """The folder of the bundle that a file lies in: this one, or for a shared stage another."""
        return self.shared.get(relative.split("/")[0], self.path)

    def tokenizer_json(self) -> str | None:
        """The text of tokenizer.json, the hash verified; None for a bundle without one."""
        if self.manifest.tokenizer is None:
            return None
        return as_text(read_file(self.path, self.manifest.tokenizer, self.manifest.files), self.path / TOKENIZER)

    def weights(self, stages: list[str], *, text: bool = True) -> dict[str, str]:
        """sha256 of the weights of `stages`, by name, and of the text encoder unless no text is read."""
        kinds = ENCODERS if text else ()
        used = [entry for entry in self.manifest.stages if entry.kind in kinds or entry.name in stages]
        return {entry.name: self.manifest.digest(entry) for entry in used}

    def read_size(self, text: str) -> Size:
        """The size that --size names. Raises UsageError unless the cascade can stop there."""
        made = [str(size) for size in self.manifest.sizes]
        if text not in made:
            what = f"--size {text}: the model {self.manifest.name!r} stops at {', '.join(made)}."
            raise UsageError(what, "Choose one of these.")
        return int(text)

    def check_options(self, options: dict[str, str]) -> None:
        """Raise InputError (code `bundle`) for an unfinished model, UsageError for a negative prompt where nothing
        is guided, or for quality where there is one way to draw. Other settings are checked as they are read."""
        check_complete(self.manifest, self.configs)
        if options.get("quality") == "yes" and not any(e.defaults.quality_steps for e in self.manifest.stages):
            raise UsageError(f"--quality: {self.manifest.name} has one number of steps.", "Write --steps N.")
        if options.get("negative", "").strip():
            self._check_diffuses("--negative")

    def check_load(self, options: LoadOptions) -> None:
        """Raise UsageError for a way of loading that is for the models of others, InputError (code `mismatch`) for a
        personal model that was trained for other weights."""
        weights = {entry.name: self.manifest.digest(entry) for entry in self.manifest.stages}
        for lora in options.loras:
            if lora.personal:
                check_fits(lora.personal, lora.path, self.manifest.name, weights)
        for option in replace(options, loras=tuple(lora for lora in options.loras if not lora.personal)).given():
            what = f"{option}: {self.manifest.name} is a model of ours, and takes none."
            raise UsageError(what, "It is for models in diffusers' layout, see docs/open-checkpoints.md.")

    def check_can(self, feature: str) -> None:
        """Raise UsageError for what takes a base where there is none. Whether the other stages are there that a feature
        needs is checked by the command."""
        if feature in FROM_PICTURES:
            self._check_diffuses(feature)

    def _check_diffuses(self, feature: str) -> None:
        if any(self.manifest.of_kind(kind) for kind in DIRECT):
            raise takes_diffusion(self.manifest.name, feature)

    def card(self) -> str:
        """The text of the card."""
        return as_text(read_file(self.path, self.manifest.card, self.manifest.files), self.path / CARD)

    def verify(self) -> list[str]:
        """Read every file and every weight. Returns the files; raises InputError at the first fault."""
        for relative in self.manifest.files:
            place = self.place(relative)
            data = read_file(place, relative, self.manifest.files)
            if relative.endswith(".safetensors"):
                decode(data, str(place / relative))
        return list(self.manifest.files)


def read_bundle(folder: Path | str) -> Bundle:
    """Read a bundle's manifest and configs; weights stay on disk until `Bundle.load_stage`.

    Raises InputError (code `bundle`; `mismatch` if the stages do not fit together).
    """
    folder = Path(folder)
    where = folder / MANIFEST
    if not where.is_file():
        hint = f"A model is a folder with a {MANIFEST} in it, as `t2i train` writes it."
        raise InputError(f"{folder} is not a bundle: it has no {MANIFEST}.", hint, "bundle")
    manifest = read_manifest(folder)
    shared = shared_places(folder, manifest)
    configs = read_configs(folder, manifest, shared)
    for entry in manifest.stages:
        weights = shared.get(entry.folder, folder) / entry.files[1]
        if not present(weights):
            raise broken(weights, "it is missing")
    if manifest.tokenizer is not None and not present(folder / manifest.tokenizer):
        raise broken(folder / manifest.tokenizer, "it is missing")
    check_compatible(manifest, configs)
    return Bundle(folder, manifest, configs, shared)
