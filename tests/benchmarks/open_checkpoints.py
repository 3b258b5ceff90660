"""Through t2i against diffusers alone: the same small random checkpoint, steps and type, in turns in one process.

    python tests/benchmarks/open_checkpoints.py

Times are CPU seconds of the process, which other work on the machine disturbs less than the clock. The results are in
docs/benchmarks.md.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "open"))

import diffusers
import torch
from checkpoints import clip_text, clip_tokenizer, vae_of

from t2i.open.engine import DiffusersEngine
from t2i.rng import generator
from t2i.sampling import SampleRequest, by_stage
from t2i.store.load_options import LoadOptions
from t2i.store.open_model import read_open_model

PROMPT, STEPS, TURNS = "a cat in the snow", 4, 4


def checkpoint(folder: Path) -> Path:
    """Stable Diffusion with a U-Net of some million parameters, at 128 pixels."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = diffusers.UNet2DConditionModel(
            sample_size=16, block_out_channels=(64, 128), layers_per_block=1, norm_num_groups=16, attention_head_dim=8,
            cross_attention_dim=64, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        )  # fmt: skip
        pipeline = diffusers.StableDiffusionPipeline(
            vae=vae_of(4), text_encoder=clip_text(64), tokenizer=clip_tokenizer(), unet=net,
            scheduler=diffusers.DDIMScheduler(clip_sample=False), safety_checker=None, feature_extractor=None,
            requires_safety_checker=False,
        )  # fmt: skip
    pipeline.save_pretrained(folder)
    return folder


def seconds(draw: Callable[[], Any]) -> float:
    """CPU seconds of one call."""
    before = time.process_time()
    draw()
    return time.process_time() - before


def in_turns(first: Callable[[], Any], second: Callable[[], Any]) -> tuple[float, float]:
    """Median CPU seconds of both, called in turns after one warm-up each."""
    first(), second()
    pairs = [(seconds(first), seconds(second)) for _ in range(TURNS)]
    return median(a for a, _ in pairs), median(b for _, b in pairs)


def started(*args: str) -> float:
    """CPU seconds of a command, from its start to its end."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *args], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def weights_mb(engine: DiffusersEngine) -> float:
    """Of all networks in memory, in MB; of a quantised layer what it holds in place of its weights."""
    total = 0
    nets = {id(p): p for p in engine.pipelines.parts["base"].values() if isinstance(p, torch.nn.Module)}
    for weight in (w for net in nets.values() for w in net.parameters()):
        inner = weight.__tensor_flatten__()[0] if hasattr(weight, "qdata") else ()
        total += sum(getattr(weight, name).nbytes for name in inner) if inner else weight.nbytes
    return total / 1e6


def main() -> None:
    """Print the rows of the page."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        folder = checkpoint(Path(place))
        engine = DiffusersEngine.load(read_open_model([folder]))
        own = diffusers.StableDiffusionPipeline.from_pretrained(folder, use_safetensors=True)
        own.set_progress_bar_config(disable=True)
        small = DiffusersEngine.load(read_open_model([folder]), options=LoadOptions(quantize="int8"))
        low = DiffusersEngine.load(read_open_model([folder]), options=LoadOptions(memory="low"))
        request = SampleRequest(size=128, stages=by_stage(steps={"base": STEPS}))

        def through(engine: DiffusersEngine, batch: int) -> Callable[[], Any]:
            return lambda: engine.sample([PROMPT] * batch, range(batch), request)

        def alone(batch: int) -> Callable[[], Any]:
            noise = [generator("noise", seed, "base", 0) for seed in range(batch)]
            return lambda: own([PROMPT] * batch, 128, 128, STEPS, generator=noise, output_type="np")

        print("| what | t2i, CPU s | compared with, CPU s | speed |")
        print("|---|---|---|---|")
        for batch in (1, 4):
            a, b = in_turns(through(engine, batch), alone(batch))
            print(f"| batch {batch}, against diffusers alone | {a:.2f} | {b:.2f} | {b / a:.2f} |", flush=True)
        for name, other in (("--quantize int8", small), ("--memory low", low)):
            a, b = in_turns(through(other, 4), through(engine, 4))
            print(f"| batch 4 with {name}, against without | {a:.2f} | {b:.2f} | {b / a:.2f} |", flush=True)
        first = ("-m", "t2i", "sample", PROMPT, "--model", place, "--steps", str(STEPS), "-o", f"{place}/out", "-q")
        a, b = started(*first, "--device", "cpu"), started("-c", "from diffusers import DiffusionPipeline")
        print(f"| from start to one picture, against the import of diffusers | {a:.2f} | {b:.2f} | |", flush=True)
        print(f"\nweights: {weights_mb(engine):.1f} MB, with --quantize int8 {weights_mb(small):.1f} MB")


if __name__ == "__main__":
    main()
