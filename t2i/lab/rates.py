"""The rate of warm drawing, beside the best that the convolution kernels of this machine reach at the same shapes.

    python -m t2i.lab.rates                      # small, eight pictures of 256 pixels, both number types
    python -m t2i.lab.rates --profile            # also where the time goes, by operation

All of it in turns in one process and one thread, in CPU seconds, which leave out what other programs take. Prints lines
of JSON. GFLOP are those of torch's FlopCounterMode: matrix products, convolutions and attention, a multiply-add as two.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from t2i.lab.program import positive, reports_errors
from t2i.nets.linear import product
from t2i.pipeline import Pipeline
from t2i.sampling import SampleRequest
from t2i.store.registry import resolve

PROMPTS = ("a cat in the snow", "a red apple on a table", "two dogs at the beach", "a castle at sunset")


class Conv(NamedTuple):
    """A convolution: the shapes of its input (B, C, H, W) and weight (D, C, k, k), stride and padding."""

    shape: tuple[int, ...]
    weight: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]

    @property
    def gflop(self) -> float:
        sizes = zip(self.shape[2:], self.weight[2:], self.stride, self.padding)
        cells = math.prod((n + 2 * p - k) // s + 1 for n, k, s, p in sizes)
        return 2e-9 * self.shape[0] * cells * math.prod(self.weight)

    def call(self, dtype: torch.dtype) -> Callable[[], Tensor]:
        """The convolution on random numbers, in the memory layout of the networks and by what computes it there."""
        g = torch.Generator().manual_seed(0)
        x, w = (torch.randn(s, generator=g).to(dtype).contiguous(memory_format=torch.channels_last)
                for s in (self.shape, self.weight))  # fmt: skip
        if (*self.weight[2:], *self.stride) == (1, 1, 1, 1):
            rows, matrix = x.permute(0, 2, 3, 1), w[:, :, 0, 0]
            return lambda: product(rows, matrix, None)
        return lambda: F.conv2d(x, w, stride=self.stride, padding=self.padding)


def convolutions(pipeline: Pipeline, draw: Callable[[], Any]) -> Counter[Conv]:
    """How often each convolution is computed in one call."""
    found: Counter[Conv] = Counter()

    def seen(module: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        assert isinstance(module, nn.Conv2d) and not isinstance(module.padding, str)
        found[Conv(tuple(inputs[0].shape), tuple(module.weight.shape), module.stride, module.padding)] += 1

    nets = [stage.net for stage in pipeline.stages.values()]
    handles = [m.register_forward_hook(seen) for net in nets for m in net.modules() if isinstance(m, nn.Conv2d)]
    draw()
    for handle in handles:
        handle.remove()
    return found


def _product_flop(x: Sequence[int], weight: Sequence[int], *_: Any, **__: Any) -> int:
    """The operations of `t2i.nets.linear.product`, for torch's counter: shapes (..., C) and (D, C)."""
    return 2 * math.prod(x) * weight[0]


def seconds(work: Callable[[], Any]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


@torch.inference_mode()
def measure(args: argparse.Namespace, dtype: str) -> dict[str, Any]:
    """Medians over the rounds. A convolution's time is the least of three in each."""
    pipeline = Pipeline.load(resolve(args.model), dtype=dtype)
    prompts = [PROMPTS[i % len(PROMPTS)] for i in range(args.n)]
    request = SampleRequest(size=args.size)

    def draw() -> None:
        pipeline.sample(prompts, range(args.n), request)

    draw()  # the texts are encoded from here on
    with FlopCounterMode(display=False, custom_mapping={torch.ops.mkldnn._linear_pointwise: _product_flop}) as counter:
        draw()
    gflop = counter.get_total_flops() / 1e9
    convs = convolutions(pipeline, draw)
    calls = {conv: conv.call(getattr(torch, dtype)) for conv in convs}
    drawing, alone = [], {conv: list[float]() for conv in convs}
    for _ in range(args.rounds):
        drawing.append(seconds(draw))
        for conv, call in calls.items():
            alone[conv].append(min(seconds(call) for _ in range(3)))
    took = {conv: statistics.median(times) for conv, times in alone.items()}
    share = sum(conv.gflop * n for conv, n in convs.items())
    within = sum(took[conv] * n for conv, n in convs.items())
    whole = statistics.median(drawing)
    best = max(took, key=lambda conv: conv.gflop / took[conv])
    facts = {
        "pictures": args.n, "GFLOP a picture": round(gflop / args.n, 2), "seconds": round(whole, 3),
        "convolutions' share of the GFLOP": round(share / gflop, 3),
        "GFLOP/s": {
            "drawing": round(gflop / whole), "its convolutions, each alone": round(share / within),
            "the fastest of them": round(best.gflop / took[best]),
        },
        "drawing / its convolutions alone": round(gflop / whole / (share / within), 2),
        "the convolutions' share of the time": round(within / whole, 2),
    }  # fmt: skip
    if args.profile:
        facts["milliseconds"] = _profile(draw)
    return facts


def _profile(draw: Callable[[], Any]) -> dict[str, float]:
    """The operations that take most of the time themselves, in milliseconds."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as found:
        draw()
    events = sorted(found.key_averages(), key=lambda event: -event.self_cpu_time_total)
    return {f"{event.key} x{event.count}": round(event.self_cpu_time_total / 1000, 1) for event in events[:16]}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="small", help="the bundle (default small)")
    parser.add_argument("--n", type=positive, default=8, help="pictures drawn together (default 8)")
    parser.add_argument("--size", type=positive, default=256, help="their side in pixels (default 256)")
    parser.add_argument("--rounds", type=positive, default=5, help="(default 5)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), action="append", help="(default: both in turn)")
    parser.add_argument("--profile", action="store_true", help="also the operations that take most of the time")
    return parser


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    torch.set_num_threads(1)
    for dtype in args.dtype or ("float32", "bfloat16"):
        sys.stdout.write(json.dumps({dtype: measure(args, dtype)}) + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
