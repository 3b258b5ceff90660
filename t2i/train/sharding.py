"""Training by FSDP: a network that is cut into pieces, one for each process (Zhao 2023, arXiv 2304.11277).

Weights, gradients, averages and AdamW's moments are cut along their first axis. torch (`fully_shard`, which accelerate
calls version 2) gathers the weights of a block before it is computed, and hands each process its piece of the mean
gradient. What is done to each number alone (AdamW, the average) is done on the pieces (`local`); what is stored is
whole (`whole`, `assign`). Parameters that are one number, such as CLIP's logit scale, are in every process.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from t2i.errors import UsageError
from t2i.train.recipe import Schedule
from t2i.train.team import Processes, Root, asked

T = TypeVar("T")
UNUSED = {
    "FSDP_OFFLOAD_PARAMS": "does not keep weights in the memory of processors (--fsdp_offload_params)",
    "FSDP_ACTIVATION_CHECKPOINTING": "does not compute activations twice (--fsdp_activation_checkpointing)",
}
"""What `accelerate launch` can be asked for, and is not done here."""


def local(t: Tensor) -> Tensor:
    """The piece of a tensor that this process holds, which shares its memory; the tensor itself where it is not cut."""
    piece: Tensor = t.to_local() if hasattr(t, "to_local") else t
    return piece


def whole(t: Tensor) -> Tensor:
    """A tensor that may be cut, with the pieces of all processes, which all must ask for it; then on the CPU."""
    gathered: Tensor = t.full_tensor().cpu() if hasattr(t, "full_tensor") else t
    return gathered


@torch.no_grad()
def assign(t: Tensor, value: Tensor) -> None:
    """Write a whole tensor into one that may be cut."""
    if hasattr(t, "device_mesh"):
        from torch.distributed.tensor import distribute_tensor

        value = distribute_tensor(value.to(t.device), t.device_mesh, t.placements, src_data_rank=None)  # type: ignore[attr-defined]
    local(t).copy_(local(value))


def blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The blocks of a network, whose weights are gathered one after the other: what stands in a list of modules."""
    for child in module.modules():
        if isinstance(child, nn.ModuleList):
            yield from (block for block in child if not isinstance(block, nn.ModuleList))


class Shards(Processes):
    """Several processes, each of which holds a piece of the network."""

    sharded = True

    def __init__(self, device: str) -> None:
        """As `Processes`. Raises UsageError for options of FSDP that have no effect here."""
        if os.environ.get("FSDP_VERSION", "1") != "2":
            raise UsageError("t2i train cuts networks by version 2 of FSDP.", "Add --fsdp_version 2")
        for variable, what in UNUSED.items():
            if asked(variable):
                raise UsageError(f"t2i train {what}.", "Leave it out, or use more processes.")
        super().__init__(device)
        from torch.distributed.device_mesh import init_device_mesh

        self.mesh = init_device_mesh(self.device.type, (self.ranks,))
        self.free_early = asked("FSDP_RESHARD_AFTER_FORWARD", "true")

    def wrap(self, module: nn.Module) -> Any:
        from torch.distributed.fsdp import fully_shard

        # accelerate's `prepare` (1.15) does this on GPUs alone; on processors it sets up DistributedDataParallel
        scalars = {p for p in module.parameters() if p.ndim == 0}
        for block in blocks(module):
            fully_shard(block, mesh=self.mesh, reshard_after_forward=self.free_early, ignored_params=scalars)
        return fully_shard(Root(module), mesh=self.mesh, ignored_params=scalars)

    def no_sync(self, wrapped: Any) -> AbstractContextManager[Any]:
        return nullcontext()  # a whole gradient would be as large as the network: the pieces are added up

    def clip_gradients(self, module: nn.Module, most: float) -> float:
        given = [p.grad for p in module.parameters() if p.grad is not None]
        cut, kept = [local(g) for g in given if local(g) is not g], [g for g in given if local(g) is g]
        for g in kept:
            torch.distributed.all_reduce(g.div_(self.ranks))
        squares = nn.utils.get_total_norm(cut).square().to(self.device)
        torch.distributed.all_reduce(squares)
        norm = (squares + nn.utils.get_total_norm(kept).square().to(self.device)).sqrt()
        torch._foreach_mul_(cut + kept, (most / (norm + 1e-6)).clamp(max=1.0))
        return float(norm)

    def draw(self, wrapped: Any, pictures: Callable[[], T]) -> T:
        from torch.distributed.fsdp import FSDPModule

        try:
            drawn: T = wrapped(pictures)
        finally:
            for part in wrapped.modules():  # there is no backward pass that would do it
                if isinstance(part, FSDPModule):
                    part.reshard()
        return drawn


def launched_team(device: str) -> Processes:
    """The processes that were launched, with the engine that the launcher asks for. Raises as `Processes`."""
    return Shards(device) if asked("ACCELERATE_USE_FSDP") else Processes(device)


def check_sharding(stages: Mapping[str, tuple[Schedule, str]]) -> None:
    """Raise UsageError for stages whose network cannot be cut. stages: name -> schedule, and `Trainable.unsharded`."""
    for name, (schedule, why) in stages.items():
        if why:
            what = f"{name} cannot be trained under FSDP: {why}."
            raise UsageError(
                what, "Launch it without --use_fsdp; then every process holds the whole network.", "config"
            )
        if schedule.compile:
            what = f"{name} cannot be compiled under FSDP."
            raise UsageError(what, f"Leave out {name}.compile", "config")
    if muon := [name for name, (schedule, _) in stages.items() if schedule.muon]:
        what = f"Muon needs whole matrices, and FSDP cuts those of {' and '.join(muon)}."
        words = " ".join(f"--set {name}.muon=false" for name in muon)
        raise UsageError(what, f"For AdamW alone write {words}", "config")
