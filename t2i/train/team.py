"""The processes that train together.

Each computes its part of every batch (`part.py`). torch averages the gradients (DistributedDataParallel, set up by the
library accelerate), and every process takes the same step; in `sharding.py` each takes it for its piece of the network.
Process 0 leads: it alone writes files and reports.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from t2i.errors import T2IError, UnavailableError, UsageError

T = TypeVar("T")
PATIENCE = timedelta(days=7)  # that processes wait for the first, which may fill a pool
OTHER_ENGINES = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
}
"""What `accelerate launch` sets for engines that are none of ours."""


def asked(variable: str, default: str = "") -> bool:
    """Whether a launcher has set a variable of the environment to yes."""
    return os.environ.get(variable, default).lower() in ("1", "true", "yes")


class Team:
    """A training in one process. `Processes` is the same for several."""

    rank, ranks = 0, 1
    sharded = False
    """Whether each process holds only a piece of the network."""

    @property
    def leads(self) -> bool:
        """Whether this process writes and reports."""
        return self.rank == 0

    def wrap(self, module: nn.Module) -> Any:
        """A function that calls the loss that it is given, so that the gradients of `module` become the means over all
        processes: in `backward`, and in `clip_gradients`. It may cut the parameters: wrap before an optimiser gets
        them."""
        return _call

    def no_sync(self, wrapped: Any) -> AbstractContextManager[Any]:
        """A block in which the gradients of `wrapped` stay in this process."""
        return nullcontext()

    def clip_gradients(self, module: nn.Module, most: float) -> float:
        """Shorten the gradient to the norm `most`, if it is longer. Returns its norm before."""
        return float(nn.utils.clip_grad_norm_(module.parameters(), most))

    def draw(self, wrapped: Any, pictures: Callable[[], T]) -> T:
        """What `pictures` returns, which uses the network of `wrapped`. Of a cut one all processes must ask for it."""
        return pictures()

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """The means of numbers over all processes."""
        return values

    def any(self, flag: bool) -> bool:
        """Whether it is true in any process."""
        return flag

    def first(self, work: Callable[[], T]) -> T:
        """What `work` returns in the process that leads, in all; the others wait for it. An error is raised in all."""
        return work()

    def gather(self, rows: Tensor) -> Tensor:
        """The rows (N / ranks, ...) of all processes: (N, ...). What is computed of them must be the same in all: then
        gradients are right."""
        return rows

    def gather_list(self, rows: list[T]) -> list[T]:
        """The same for a list of anything that can be pickled."""
        return rows


class Processes(Team):
    """Several processes, which `accelerate launch` or `torchrun` has started."""

    def __init__(self, device: str) -> None:
        """device: as in `--device`; of several GPUs each process takes its own. Raises UnavailableError without the
        library accelerate, UsageError for an engine that is none of ours."""
        for variable, engine in OTHER_ENGINES.items():
            if asked(variable):
                what = f"t2i train does not run under {engine}."
                raise UsageError(what, "Launch it with accelerate's --multi_gpu or --use_fsdp, or with torchrun.")
        try:
            from accelerate import Accelerator
            from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs
        except ImportError as error:
            what = "training in several processes needs the library accelerate."
            raise UnavailableError(what, "pip install 't2i[train]'", "dependency") from error
        options = [
            InitProcessGroupKwargs(timeout=PATIENCE),
            # of some objectives a part of the network gets no gradient in a step
            DistributedDataParallelKwargs(find_unused_parameters=True),
        ]
        self.accelerator = Accelerator(cpu=device == "cpu", mixed_precision="no", kwargs_handlers=options)
        self.rank, self.ranks = self.accelerator.process_index, self.accelerator.num_processes
        self.device: torch.device = self.accelerator.device

    def wrap(self, module: nn.Module) -> Any:
        self.accelerator.free_memory()  # it keeps what it prepared before
        return self.accelerator.prepare_model(Root(module))

    def no_sync(self, wrapped: Any) -> AbstractContextManager[Any]:
        block: AbstractContextManager[Any] = self.accelerator.no_sync(wrapped)
        return block

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        numbers = torch.tensor(list(values.values()), dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(numbers)
        return dict(zip(values, (numbers / self.ranks).tolist(), strict=True))

    def any(self, flag: bool) -> bool:
        return self.mean({"flag": float(flag)})["flag"] > 0

    def first(self, work: Callable[[], T]) -> T:
        box: list[Any] = [None, None]
        if self.leads:
            try:
                box[0] = work()
            except T2IError as error:
                box[1] = error
        torch.distributed.broadcast_object_list(box, device=self.device)
        if box[1] is not None:
            raise box[1]
        result: T = box[0]
        return result

    def gather(self, rows: Tensor) -> Tensor:
        mine = rows.detach().contiguous()
        parts = [torch.empty_like(mine) for _ in range(self.ranks)]
        torch.distributed.all_gather(parts, mine)
        # Each process computes the loss of all rows, but the gradient of its own; the mean over processes divides that.
        parts[self.rank] = mine + (rows - mine) * self.ranks
        return torch.cat(parts)

    def gather_list(self, rows: list[T]) -> list[T]:
        boxes: list[Any] = [None] * self.ranks
        torch.distributed.all_gather_object(boxes, rows)
        return [row for box in boxes for row in box]


class Root(nn.Module):
    """A module whose forward pass is a call of what it is given, so that torch can watch it."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, work: Callable[[], T]) -> T:
        return work()


def _call(work: Callable[[], T]) -> T:
    return work()


SOLO = Team()


def lost(error: BaseException) -> bool:
    """Whether an error of torch's means that another process has gone."""
    words = ("connection closed by peer", "connection reset", "broken pipe", "nccl", "gloo", "timed out")
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)
