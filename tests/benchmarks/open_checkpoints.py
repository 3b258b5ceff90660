"""Through t2i against diffusers alone: the same small random checkpoint, steps and type.

    python tests/benchmarks/open_checkpoints.py speed        # in turns in one process
    python tests/benchmarks/open_checkpoints.py memory       # the peak, at batches of 1, 4 and 16
    python tests/benchmarks/open_checkpoints.py loop         # 100 prompts
    python tests/benchmarks/open_checkpoints.py start        # from the start to the first picture
    python tests/benchmarks/open_checkpoints.py true-size    # the U-Net of SDXL and Karlo's decoder, bfloat16 and int8

Times are CPU seconds, which other work on the machine disturbs less than the clock. The results are in
docs/benchmarks.md. With `--device cuda`, `speed` takes the clock's seconds.
"""

from __future__ import annotations

import argparse
import os
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

from t2i.cli.app import run
from t2i.engine import PromptBatch
from t2i.open.engine import DiffusersEngine
from t2i.open.machine import prepare
from t2i.rng import generator
from t2i.sampling import SampleRequest, by_stage
from t2i.store.load_options import LoadOptions
from t2i.store.open_model import read_open_model

PROMPT, STEPS, TURNS, SIDE = "a cat in the snow", 4, 4, 128
BATCHES = (1, 4, 16)
PROMPTS = 100


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


def alone(folder: Path, device: str) -> Any:
    """The pipeline by diffusers itself."""
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder, use_safetensors=True).to(device)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draw_alone(pipeline: Any, batch: int) -> Any:
    """A batch by diffusers itself, with the generators that t2i gives it."""
    noise = [generator("noise", seed, "base", 0) for seed in range(batch)]
    return pipeline([PROMPT] * batch, SIDE, SIDE, STEPS, generator=noise, output_type="np")


def draw_through(engine: DiffusersEngine, batch: int) -> Any:
    """The same batch through t2i."""
    request = SampleRequest(size=SIDE, stages=by_stage(steps={"base": STEPS}))
    return engine.sample(PromptBatch([PROMPT] * batch, range(batch), request))


def now(device: str) -> float:
    """CPU seconds of this process; for a GPU, which works beside it, seconds of the clock."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def in_turns(device: str, *calls: Callable[[], Any]) -> list[float]:
    """Median seconds of each, called in turns after one warm-up."""
    found: list[list[float]] = [[] for _ in calls]
    for turn in range(TURNS + 1):
        for call, times in zip(calls, found, strict=True):
            before = now(device)
            call()
            if turn:
                times.append(now(device) - before)
    return [median(times) for times in found]


def started(*args: str) -> float:
    """CPU seconds of a command, from its start to its end."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *args], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def forked(work: Callable[[], Any]) -> tuple[float, float]:
    """CPU seconds of `work` in a process of its own, which has the libraries already, and the peak of its memory in
    MB, the libraries included. Not for a GPU."""
    sys.stdout.flush()
    if (child := os.fork()) == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            work()
            os._exit(0)
        finally:
            os._exit(1)
    _, status, usage = os.wait4(child, 0)
    assert status == 0
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def spent(work: Callable[[], Any]) -> float:
    """CPU seconds of a call, with those of the compilers that it starts."""

    def total() -> float:
        return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))

    before = total()
    work()
    return total() - before


def speed(folder: Path, device: str) -> None:
    """Batches of 1 and 4, and what --quantize, --memory and --compile cost; what compiling itself costs apart."""
    stored, own = read_open_model([folder]), alone(folder, device)
    engine = DiffusersEngine.load(stored, device)
    print("| what | t2i, CPU s | compared with, CPU s | speed |\n|---|---|---|---|")
    for batch in (1, 4):
        a, b = in_turns(device, lambda n=batch: draw_through(engine, n), lambda n=batch: draw_alone(own, n))
        print(f"| batch {batch}, against diffusers alone | {a:.2f} | {b:.2f} | {b / a:.2f} |", flush=True)
    changed = {
        "--quantize int8": LoadOptions(quantize="int8"),
        "--memory low": LoadOptions(memory="low"),
        "--compile": LoadOptions(compile=True),
    }
    for name, options in changed.items():
        other = DiffusersEngine.load(stored, device, options)
        first = [spent(lambda engine=other, n=batch: draw_through(engine, n)) for batch in (4, 1)]
        a, b = in_turns(device, lambda engine=other: draw_through(engine, 4), lambda: draw_through(engine, 4))
        print(f"| batch 4 with {name}, against without | {a:.2f} | {b:.2f} | {b / a:.2f} |", flush=True)
    print("The first batches of 4 and of 1 with --compile: {:.0f} and {:.0f} CPU s".format(*first))


def memory(folder: Path, device: str) -> None:
    """The peak of a process that loads the checkpoint and draws one batch."""
    stored = read_open_model([folder])
    print("| batch | t2i, peak MB | diffusers alone, peak MB |\n|---|---|---|")
    for batch in BATCHES:
        _, ours = forked(lambda n=batch: draw_through(DiffusersEngine.load(stored, device), n))
        _, plain = forked(lambda n=batch: draw_alone(alone(folder, device), n))
        print(f"| {batch} | {ours:.0f} | {plain:.0f} |", flush=True)


def loop(folder: Path, device: str) -> None:
    """100 prompts to 100 files: the command at its defaults, and a script that calls diffusers for each."""
    prompts = folder / "prompts.txt"
    prompts.write_text("".join(f"a cat in the snow, number {i}\n" for i in range(PROMPTS)))
    args = ("-f", str(prompts), "--model", str(folder), "--steps", str(STEPS), "-o", f"{folder}/ours", "-q")

    def script() -> None:
        pipeline = alone(folder, device)
        for i, prompt in enumerate(prompts.read_text().splitlines()):
            made = pipeline(prompt, SIDE, SIDE, STEPS, generator=torch.Generator().manual_seed(i))
            made.images[0].save(folder / f"{i}.png")

    ours, ours_mb = forked(lambda: run(["sample", *args, "--device", device]))
    assert len(list((folder / "ours").glob("*.png"))) == PROMPTS
    plain, plain_mb = forked(script)
    print(f"{PROMPTS} prompts: t2i {ours:.1f} CPU s and at most {ours_mb:.0f} MB")
    print(f"a script that calls diffusers: {plain:.1f} CPU s and at most {plain_mb:.0f} MB")


def start(folder: Path, device: str) -> None:
    """To the first picture on disk, against the import of diffusers alone, in turns."""
    found = []
    for turn in range(3):
        args = ("--steps", str(STEPS), "-o", f"{folder}/out{turn}", "-q", "--device", device)
        ours = started("-m", "t2i", "sample", PROMPT, "--model", str(folder), *args)
        found.append((ours, started("-c", "from diffusers import DiffusionPipeline")))
    a, b = (median(column) for column in zip(*found, strict=True))
    print(f"from the start to one picture {a:.2f} CPU s, the import of diffusers {b:.2f} CPU s")


def true_size(folder: Path, device: str) -> None:
    """One call of a network of true size with random weights, and the memory that it takes."""
    print("| network | weights | peak of the process, MB | with one call, CPU s |\n|---|---|---|---|")
    for name in ("Karlo", "Stable Diffusion XL"):
        for quantize in ("", "int8"):
            spent, peak = forked(lambda name=name, quantize=quantize: one_call(name, quantize))
            print(f"| {name} | {quantize or 'bfloat16'} | {peak:,.0f} | {spent:.0f} |", flush=True)


def one_call(name: str, quantize: str) -> None:
    """Karlo's decoder at 64 pixels, or the U-Net of SDXL at 256: made in bfloat16, then quantised layer by layer."""
    from true_sizes import PUBLISHED

    part = "decoder" if name == "Karlo" else "unet"
    cls, config = PUBLISHED[name][part]
    with torch.device("meta"):
        net: Any = cls(**config)
    net = net.to(torch.bfloat16).to_empty(device="cpu").eval().requires_grad_(False)
    for weight in net.parameters():
        weight.uniform_(-0.02, 0.02)
    prepare([(part, net)], LoadOptions(quantize=quantize))

    def zeros(*shape: int) -> torch.Tensor:
        return torch.zeros(shape, dtype=torch.bfloat16)

    with torch.inference_mode():
        if name == "Karlo":
            net(zeros(1, 3, 64, 64), torch.tensor(500), zeros(1, 81, 1536), class_labels=zeros(1, 1280))
        else:
            added = {"text_embeds": zeros(1, 1280), "time_ids": zeros(1, 6)}
            net(zeros(1, 4, 32, 32), torch.tensor(500), zeros(1, 77, 2048), added_cond_kwargs=added)


def main() -> None:
    """Print the rows of the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    measures = {"speed": speed, "memory": memory, "loop": loop, "start": start, "true-size": true_size}
    parser.add_argument("what", choices=measures)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    with tempfile.TemporaryDirectory() as place:
        measures[args.what](checkpoint(Path(place) / "random"), args.device)


if __name__ == "__main__":
    main()
