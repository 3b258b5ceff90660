"""Checkpoints of a training: weights, average, optimiser state and step.

Batches and noise are pure functions of (seed, step), so this is all that an exact resume needs. Tensors are stored as
safetensors, the rest as JSON; nothing is unpickled. A kill while writing leaves the old checkpoint or the new one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save
from torch import Tensor, nn

from t2i.errors import InputError
from t2i.files import write_together
from t2i.train.optim import MuonAdamW, PowerEMA

TENSORS, FACTS = "state.safetensors", "state.json"


@dataclass
class State:
    """All that changes during training.

    step: steps taken, of which `skipped` had a loss that was no number. samples: examples seen. seconds: time spent.
    """

    module: nn.Module
    optimizer: MuonAdamW
    ema: PowerEMA
    step: int = 0
    samples: int = 0
    seconds: float = 0.0
    skipped: int = 0

    def tensors(self) -> dict[str, Tensor]:
        """The tensors of a checkpoint: model/NAME, ema/NAME, optimizer/INDEX/KEY."""
        out = {f"model/{name}": t for name, t in self.module.state_dict().items()}
        out |= {f"ema/{name}": t for name, t in self.ema.weights.items()}
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        for i, p in enumerate(parameters):
            out |= {f"optimizer/{i}/{key}": value for key, value in self.optimizer.state[p].items()}
        return {name: t.detach().contiguous() for name, t in out.items()}

    def save(self, folder: Path, facts: dict[str, object]) -> None:
        """Write the checkpoint of `folder`. facts: what it belongs to (JSON)."""
        folder.mkdir(parents=True, exist_ok=True)
        counts = {
            "step": self.step,
            "samples": self.samples,
            "seconds": self.seconds,
            "skipped": self.skipped,
        }
        text = json.dumps({**counts, **facts}, indent=1, sort_keys=True)
        # The facts are inside the tensors' file too, so that one rename makes the checkpoint whole.
        data = save({k: t.cpu().clone() for k, t in self.tensors().items()}, metadata={"facts": text})
        write_together({folder / TENSORS: data, folder / FACTS: text.encode()}, last=folder / TENSORS)

    def load(self, folder: Path, expect: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Take over the checkpoint of `folder` and return its facts. Those that are in `expect` too must agree.

        Raises InputError when there is none or it does not fit.
        """
        path = folder / TENSORS
        if not path.is_file():
            raise InputError(f"there is no checkpoint to resume in {folder}", "start without --resume", "data")
        try:
            tensors = load_file(path)
            facts: dict[str, Any] = json.loads(_metadata(path)["facts"])
        except Exception as error:
            raise InputError(
                f"the checkpoint {path} cannot be read: {error}", "remove it and start again", "data"
            ) from error
        for key, value in (expect or {}).items():
            if key in facts and not agree(facts[key], value):
                raise _other(path, OTHERS.get(key, f"another {key}"))
        try:
            self._take(tensors)
        except (KeyError, RuntimeError) as error:  # a name that is missing, or another shape
            raise _other(path, "another network") from error
        self.step, self.samples = int(facts["step"]), int(facts["samples"])
        self.seconds, self.skipped = float(facts["seconds"]), int(facts["skipped"])
        return facts

    def _take(self, tensors: dict[str, Tensor]) -> None:
        mine = self.module.state_dict()
        if {k.removeprefix("model/") for k in tensors if k.startswith("model/")} != set(mine):
            raise KeyError("model")
        self.module.load_state_dict({k: tensors[f"model/{k}"] for k in mine})
        for name, value in self.ema.weights.items():
            value.copy_(tensors[f"ema/{name}"])
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        for i, p in enumerate(parameters):
            prefix = f"optimizer/{i}/"
            self.optimizer.state[p] = {
                k.removeprefix(prefix): t.to(p.device) for k, t in tensors.items() if k.startswith(prefix)
            }


OTHERS = {
    "stage": "another stage",
    "net": "a network of another size",
    "clip": "another CLIP: the one it was trained on has been replaced",
    "text": "another text encoder: the one it was trained on has been replaced",
    "seed": "another seed",
    "start": "a training that started from other weights",
}
"""Fact -> whose checkpoint it is when that fact differs."""


def agree(old: Any, new: Any) -> bool:
    """Whether a stored fact equals a new one, as JSON. Of two tables only the keys that both have are compared: a later
    version of t2i may know more settings."""
    new = json.loads(json.dumps(new))
    if isinstance(old, dict) and isinstance(new, dict):
        return all(old[key] == new[key] for key in old.keys() & new.keys())
    return bool(old == new)


def _other(path: Path, what: str) -> InputError:
    hint = "use the recipe and the overrides that it was started with, or start without --resume"
    return InputError(f"the checkpoint {path} is of {what}", hint, "mismatch")


def _metadata(path: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return dict(file.metadata())
