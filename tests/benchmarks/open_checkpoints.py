"""Through t2i against diffusers alone: the same small random checkpoint, steps and type.

    python tests/benchmarks/open_checkpoints.py speed        # in turns in one process
    python tests/benchmarks/open_checkpoints.py memory       # the peak of a process each, at batches of 1, 4 and 16
    python tests/benchmarks/open_checkpoints.py loop         # 100 prompts, a process each
    python tests/benchmarks/open_checkpoints.py start        # from the start to the first picture
    python tests/benchmarks/open_checkpoints.py true-size    # the U-Net of SDXL and Karlo's decoder, bfloat16 and int8

Times are CPU seconds, which other work on the machine disturbs less than the clock. The results are in
docs/benchmarks.md. On a GPU: add --device cuda, and read the clock's seconds beside them.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "open"))

import diffusers
import torch
from checkpoints import clip_text, clip_tokenizer, vae_of

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
    return engine.sample([PROMPT] * batch, range(batch), request)


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


def process(*args: str) -> tuple[float, float]:
    """CPU seconds of a command, from its start to its end, and the peak of its memory in MB."""
    child = subprocess.Popen([sys.executable, *args], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    assert status == 0, args
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def weights_mb(nets: Sequence[Any]) -> float:
    """Of all networks in memory, in MB; of a quantised layer what it holds in place of its weights."""
    total = 0
    for weight in (w for net in {id(net): net for net in nets}.values() for w in net.parameters()):
        inner = weight.__tensor_flatten__()[0] if hasattr(weight, "qdata") else ()
        total += sum(getattr(weight, name).nbytes for name in inner) if inner else weight.nbytes
    return total / 1e6


def speed(folder: Path, device: str) -> None:
    """Batches of 1 and 4, and what --quantize and --memory cost."""
    stored, own = read_open_model([folder]), alone(folder, device)
    engine = DiffusersEngine.load(stored, device)
    print("| what | t2i, CPU s | compared with, CPU s | speed |\n|---|---|---|---|")
    for batch in (1, 4):
        a, b = in_turns(lambda n=batch: draw_through(engine, n), lambda n=batch: draw_alone(own, n))
        print(f"| batch {batch}, against diffusers alone | {a:.2f} | {b:.2f} | {b / a:.2f} |", flush=True)
    for name, options in (("--quantize int8", {"quantize": "int8"}), ("--memory low", {"memory": "low"})):
        other = DiffusersEngine.load(stored, device, LoadOptions(**options))  # type: ignore[arg-type]
        a, b = in_turns(lambda engine=other: draw_through(engine, 4), lambda: draw_through(engine, 4))
        print(f"| batch 4 with {name}, against without | {a:.2f} | {b:.2f} | {b / a:.2f} |", flush=True)


def memory(folder: Path, device: str) -> None:
    """The peak of a process that loads the checkpoint and draws one batch."""
    print("| batch | t2i, peak MB | diffusers alone, peak MB |\n|---|---|---|")
    for batch in BATCHES:
        _, ours = process(__file__, "one-batch", "--folder", str(folder), "--batch", str(batch), "--device", device)
        _, plain = process(
            __file__, "one-batch", "--plain", "--folder", str(folder), "--batch", str(batch), "--device", device
        )
        print(f"| {batch} | {ours:.0f} | {plain:.0f} |", flush=True)


def one_batch(folder: Path, device: str, batch: int, plain: bool) -> None:
    """What `memory` measures."""
    if plain:
        draw_alone(alone(folder, device), batch)
    else:
        draw_through(DiffusersEngine.load(read_open_model([folder]), device), batch)


LOOP = """
import sys
from pathlib import Path
import torch
from diffusers import DiffusionPipeline
torch.set_num_threads({threads})
pipeline = DiffusionPipeline.from_pretrained({folder!r}, use_safetensors=True).to({device!r})
pipeline.set_progress_bar_config(disable=True)
out = Path({out!r})
out.mkdir()
for i, prompt in enumerate(Path({prompts!r}).read_text().splitlines()):
    picture = pipeline(prompt, num_inference_steps={steps}, generator=torch.Generator().manual_seed(i)).images[0]
    picture.save(out / f"{{i}}.png")
"""


def loop(folder: Path, device: str) -> None:
    """100 prompts to 100 files: the command at its defaults, and a script that calls diffusers for each."""
    with tempfile.TemporaryDirectory() as place:
        prompts = Path(place) / "prompts.txt"
        prompts.write_text("".join(f"a cat in the snow, number {i}\n" for i in range(PROMPTS)))
        script = LOOP.format(
            threads=torch.get_num_threads(), folder=str(folder), device=device, out=f"{place}/plain",
            prompts=str(prompts), steps=STEPS,
        )  # fmt: skip
        args = ("-f", str(prompts), "--model", str(folder), "--steps", str(STEPS), "-o", f"{place}/ours", "-q")
        ours, ours_mb = process("-m", "t2i", "sample", *args, "--device", device)
        plain, plain_mb = process("-c", script)
    print(f"{PROMPTS} prompts: t2i {ours:.1f} CPU s and at most {ours_mb:.0f} MB")
    print(f"a script that calls diffusers: {plain:.1f} CPU s and at most {plain_mb:.0f} MB")


def start(folder: Path, device: str) -> None:
    """To the first picture on disk, against the import of diffusers alone, in turns."""
    found = []
    for turn in range(3):
        args = ("--steps", str(STEPS), "-o", f"{folder}/out{turn}", "-q", "--device", device)
        ours, _ = process("-m", "t2i", "sample", PROMPT, "--model", str(folder), *args)
        found.append((ours, process("-c", "from diffusers import DiffusionPipeline")[0]))
    a, b = (median(column) for column in zip(*found, strict=True))
    print(f"from the start to one picture {a:.2f} CPU s, the import of diffusers {b:.2f} CPU s")


def true_size(folder: Path, device: str) -> None:
    """One call of a network of true size with random weights, in a process of its own, and its memory."""
    print("| network | weights | weights, MB | peak of the process, MB | one call, CPU s |\n|---|---|---|---|---|")
    for name in ("karlo", "sdxl"):
        for quantize in ("", "int8"):
            subprocess.run([sys.executable, __file__, "one-call", "--net", name, "--quantize", quantize], check=True)


def one_call(name: str, quantize: str) -> None:
    """What `true_size` measures: the network is made in bfloat16, then quantised layer by layer."""
    from true_sizes import PUBLISHED

    model, part = {"karlo": ("Karlo", "decoder"), "sdxl": ("Stable Diffusion XL", "unet")}[name]
    cls, config = PUBLISHED[model][part]
    with torch.device("meta"):
        net: Any = cls(**config)
    net = net.to(torch.bfloat16).to_empty(device="cpu").eval().requires_grad_(False)
    for weight in net.parameters():
        weight.uniform_(-0.02, 0.02)
    prepare([(part, net)], LoadOptions(quantize=quantize))
    with torch.inference_mode():
        if name == "karlo":
            x, text = torch.randn(1, 3, 64, 64), torch.randn(1, 81, 1536)
            more: dict[str, Any] = {"class_labels": torch.randn(1, 1280).bfloat16()}
        else:
            x, text = torch.randn(1, 4, 32, 32), torch.randn(1, 77, 2048)
            added = {"text_embeds": torch.randn(1, 1280).bfloat16(), "time_ids": torch.zeros(1, 6).bfloat16()}
            more = {"added_cond_kwargs": added}
        spent = seconds(lambda: net(x.bfloat16(), torch.tensor(500), text.bfloat16(), **more))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    kind = quantize or "bfloat16"
    print(f"| `{part}` of {model} | {kind} | {weights_mb([net]):,.0f} | {peak:,.0f} | {spent:.1f} |", flush=True)


def main() -> None:
    """Print the rows of the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    measures = {"speed": speed, "memory": memory, "loop": loop, "start": start, "true-size": true_size}
    parser.add_argument("what", choices=[*measures, "one-batch", "one-call"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--plain", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--net", default="", help=argparse.SUPPRESS)
    parser.add_argument("--quantize", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    if args.what == "one-batch":
        return one_batch(args.folder, args.device, args.batch, args.plain)
    if args.what == "one-call":
        return one_call(args.net, args.quantize)
    with tempfile.TemporaryDirectory() as place:
        measures[args.what](checkpoint(Path(place) / "random"), args.device)
    return None


if __name__ == "__main__":
    main()
