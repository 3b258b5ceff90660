"""First weights from elsewhere: the stage of another bundle, or a network that was trained beside another stage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from t2i.errors import InputError
from t2i.sampling import given
from t2i.store.bundle import read_bundle
from t2i.train.state import read_average

LIKE = 0.5  # of a network's parameters, the least share that another must have for a partial start


def load_start(
    start: Path,
    stage: str,
    net: nn.Module,
    report: Callable[[dict[str, Any]], None],
    *,
    partial: bool = False,
    distilled: float = 1.0,
    hint: str = "Train without --start.",
) -> None:
    """Load the weights of a stage of the bundle `start` into `net`.

    partial: a network that differs is accepted if at least `LIKE` of its parameters have a place in `net`; the others
    keep their first weights. distilled: the weight of guidance that its estimates are to have. hint: for a bundle that
    has no such stage. Raises InputError.
    """
    bundle = read_bundle(start)
    if stage not in bundle.configs:
        raise InputError(f"{start} has no stage {stage!r} to start from.", hint, "data")
    state, own = bundle.load_stage(stage)[1], net.state_dict()
    fits = {k: t for k, t in state.items() if k in own and t.shape == own[k].shape}
    share = _size(fits) / _size(own)
    same = len(fits) == len(state) == len(own)
    if not same and not (partial and share >= LIKE):
        raise InputError(f"the {stage} of {start} is another network than the recipe's.", "Use its recipe.", "mismatch")
    net.load_state_dict(own | fits)
    facts: dict[str, Any] = {"event": "warm start", "stage": stage, "path": str(start), "share": round(share, 4)}
    if given(bundle.manifest.stage(stage).defaults.distilled, 1.0) not in (1.0, distilled):
        facts["hint"] = "it is a student, whose guidance a training has to unlearn: start from its teacher"
    report(facts)


def load_average(folder: Path, prefix: str, net: nn.Module) -> bool:
    """Load the averaged weights under `prefix` of the checkpoint of `folder` into `net`, if it is the same network.
    Whether it is. Raises InputError for a checkpoint that cannot be read."""
    average = {k.removeprefix(prefix): t for k, t in read_average(folder).items() if k.startswith(prefix)}
    if {k: t.shape for k, t in average.items()} != {k: t.shape for k, t in net.state_dict().items()}:
        return False
    net.load_state_dict(average)
    return True


def _size(weights: dict[str, Tensor]) -> int:
    return sum(t.numel() for t in weights.values())
