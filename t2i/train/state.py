"""Checkpoints of a training: weights, average, optimiser state and step.

Batches and noise are pure functions of (seed, step), so this is all that an exact resume needs. A checkpoint is one
safetensors file; all that is no tensor stands as JSON in its metadata. So one rename replaces it, and a kill while
writing leaves the old checkpoint or the new one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from t2i.errors import InputError
from t2i.files import write_bytes
from t2i.jsonl import strict_json
from t2i.schema import Between, values_of
from t2i.train.optim import MuonAdamW, PowerEMA
from t2i.train.sharding import assign, whole

TENSORS = "state.safetensors"
AVERAGE = "ema/"
"""What the names of the averaged weights begin with."""
SLOTS = (set[str](), {"momentum"}, {"step", "mean", "square"})
"""What the optimiser may keep of a parameter: nothing before its first gradient."""
Count = Annotated[int, Between(0, 10**15)]


@dataclass(frozen=True)
class Counts:
    """What a checkpoint counts.

    step: steps taken, of which `skipped` had a loss or a gradient that was no number, `skipped_last` of them in a row
    at the end. samples: examples seen. seconds: time spent.
    """

    step: Count
    samples: Count
    seconds: Annotated[float, Between(0, 1e15)]
    skipped: Count
    skipped_last: Count = 0


@dataclass
class State:
    """All that changes during training; the numbers are those of `Counts`."""

    module: nn.Module
    optimizer: MuonAdamW
    ema: PowerEMA
    step: int = 0
    samples: int = 0
    seconds: float = 0.0
    skipped: int = 0
    skipped_last: int = 0

    def tensors(self, keep: bool = True) -> dict[str, Tensor]:
        """The tensors of a checkpoint: model/NAME, ema/NAME, optimizer/INDEX/KEY. Where they are cut, all
        processes must ask for them; one that does not `keep` them is given none."""
        networks, parameters = self._networks(), self._parameters()
        slots = {
            f"optimizer/{i}/{key}": t for i, p in enumerate(parameters) for key, t in self.optimizer.state[p].items()
        }
        return _gather(networks | slots, keep)

    def average(self, keep: bool = True) -> dict[str, Tensor]:
        """The averaged weights; as `tensors`."""
        return _gather(self.ema.weights, keep)

    def _networks(self) -> dict[str, Tensor]:
        """Weights and averages, which may be cut."""
        out = {f"model/{name}": t for name, t in self.module.state_dict().items()}
        return out | {f"{AVERAGE}{name}": t for name, t in self.ema.weights.items()}

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def save(self, folder: Path, facts: dict[str, object], tensors: dict[str, Tensor]) -> None:
        """Write the checkpoint of `folder`. facts: what it belongs to (JSON). tensors: all of `tensors`.

        Raises InputError: a tensor is not finite (code `data`), then the last checkpoint stays; the disk refuses
        (`output`).
        """
        if name := _not_finite(tensors):
            what = f"at step {self.step} there are values in {name!r} that are no numbers; nothing was saved"
            raise InputError(what, "lower the learning rate and resume from the last checkpoint", "data")
        counts = {field.name: getattr(self, field.name) for field in fields(Counts)}
        text = json.dumps({**counts, **facts}, indent=1, sort_keys=True)
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(folder / TENSORS, save({k: t.cpu().clone() for k, t in tensors.items()}, metadata={"facts": text}))

    def load(self, folder: Path, expect: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Take over the checkpoint of `folder` and return its facts. Those that are in `expect` too must agree.

        Raises InputError when there is none or it does not fit, and for values that are not finite.
        """
        path = folder / TENSORS
        if not path.is_file():
            raise InputError(f"there is no checkpoint to resume in {folder}", "start without --resume", "data")
        facts, tensors = read_facts(folder), _read_tensors(path)
        for key, value in (expect or {}).items():
            if key in facts and not agree(facts[key], value):
                raise _other(path, OTHERS.get(key, f"another {key}"))
        if name := _not_finite(tensors):
            raise _unreadable(path, f"there are values in {name!r} that are no numbers")
        try:
            self._take(tensors)
        except KeyError as error:
            raise _other(path, "another network") from error
        for field in fields(Counts):
            setattr(self, field.name, facts[field.name])
        return facts

    def _take(self, tensors: dict[str, Tensor]) -> None:
        """Raises KeyError for tensors that are not those of this network and its optimiser."""
        stored = {name: t for name, t in tensors.items() if not name.startswith("optimizer/")}
        mine = self._networks()
        if {name: (t.shape, t.dtype) for name, t in stored.items()} != {k: (t.shape, t.dtype) for k, t in mine.items()}:
            raise KeyError("model")
        for name, value in mine.items():
            assign(value, stored[name])
        for i, p in enumerate(self._parameters()):
            prefix = f"optimizer/{i}/"
            slots = {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
            if set(slots) not in SLOTS or any(t.shape != (() if k == "step" else p.shape) for k, t in slots.items()):
                raise KeyError("optimizer")
            self.optimizer.state[p] = own = {k: t.to(p.device) for k, t in slots.items() if k == "step"}
            for key in slots.keys() - own.keys():
                own[key] = torch.empty_like(p)
                assign(own[key], slots[key])


def _gather(tensors: Mapping[str, Tensor], keep: bool) -> dict[str, Tensor]:
    """Tensors that may be cut, as `State.tensors`: one after the other, as memory may not hold all in every process."""
    out = {}
    for name, t in tensors.items():
        gathered = whole(t.detach())
        if keep:
            out[name] = gathered.contiguous()
    return out


def read_facts(folder: Path) -> dict[str, Any]:
    """What the checkpoint of `folder` says of itself: `Counts`, and the facts it was saved with. Raises InputError."""
    path = folder / TENSORS
    try:
        with safe_open(path, "pt") as file:
            facts = strict_json((file.metadata() or {})["facts"])
        counts = values_of(Counts, {f.name: facts[f.name] for f in fields(Counts) if f.name in facts})
    except Exception as error:  # the library raises nearly anything
        raise _unreadable(path, str(error) or type(error).__name__) from error
    return {**{f.name: f.default for f in fields(Counts)}, **facts, **counts}


def read_average(folder: Path) -> dict[str, Tensor]:
    """The averaged weights of the checkpoint of `folder`: name -> tensor. Raises InputError."""
    tensors = _read_tensors(folder / TENSORS)
    return {name.removeprefix(AVERAGE): t for name, t in tensors.items() if name.startswith(AVERAGE)}


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except Exception as error:  # the library raises nearly anything
        raise _unreadable(path, str(error)) from error


def _not_finite(tensors: Mapping[str, Tensor]) -> str:
    """The name of a tensor that holds a value which is no number; "" if there is none."""
    return next((k for k, t in tensors.items() if t.is_floating_point() and not bool(torch.isfinite(t).all())), "")


def _unreadable(path: Path, why: str) -> InputError:
    return InputError(f"the checkpoint {path} cannot be read: {why}", "remove it and start again", "data")


OTHERS = {
    "stage": "another stage",
    "net": "a network of another size",
    "clip": "another CLIP: the one it was trained on has been replaced",
    "text": "another text encoder: the one it was trained on has been replaced",
    "seed": "another seed",
    "start": "a training that started from other weights",
    "tokenizer": "another tokenizer",
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
