"""Timings for the documentation, each measured in turn with its reference on the same machine.

    python -m t2i.lab.timings cold               # t2i sample "a cat in the snow" -n 4, against `import torch`
    python -m t2i.lab.timings warm               # the same command alone, and by a server that is running
    python -m t2i.lab.timings interactive        # a line at --interactive, at 64 and at 256 pixels, after the first
    python -m t2i.lab.timings batch --n 10000    # a batch at 64 pixels, against the model drawing the same in a loop
    python -m t2i.lab.timings score              # 1,000 pictures of 256 pixels, and the share of the networks

Nothing else should be running. Prints lines of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from t2i.lab.program import positive, reports_errors

Facts = dict[str, Any]
ANIMALS = ("cat", "dog", "lion", "owl", "fish", "bear", "cow", "horse", "rabbit", "fox", "elephant")


def seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def command(*words: str, **more: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, *words], check=True, stdout=subprocess.PIPE, **more)


def four(args: argparse.Namespace) -> list[str]:
    """The words of the command that draws four pictures."""
    return ["sample", "a cat in the snow", "-n", "4", "--model", args.model]


def cold(args: argparse.Namespace) -> Facts:
    """Medians of wall time in alternation; the first round warms the disk cache and is not counted."""
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        for round_ in range(args.rounds + 1):
            pair = (
                seconds(lambda: command("-c", "import torch")),
                seconds(lambda: command("-m", "t2i", *four(args), "-q", cwd=folder)),
            )
            if round_:
                theirs.append(pair[0])
                ours.append(pair[1])
    sample, torch = statistics.median(ours), statistics.median(theirs)
    return {"sample": round(sample, 2), "import torch": round(torch, 2), "ratio": round(sample / torch, 2)}


def warm(args: argparse.Namespace) -> Facts:
    """Medians of wall time in alternation; the first round is not counted. Checks that the files are the same."""
    alone: list[float] = []
    served: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        serving = [sys.executable, "-m", "t2i", "serve", "-q", "--socket", f"{folder}/own/t2i.sock"]
        serving += ["--model", args.model]
        server = subprocess.Popen(serving, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert server.stdout is not None and server.stderr is not None
        env = {**os.environ, "T2I_SERVER": server.stdout.readline().strip()}
        try:
            for round_ in range(args.rounds + 1):
                for times, where, own in ((alone, "alone", os.environ), (served, "served", env)):
                    words = [*four(args), "--seed", str(4 * round_), "-o", where]
                    began = time.perf_counter()
                    done = command("-m", "t2i", *words, cwd=folder, stderr=subprocess.PIPE, env=own)
                    times.append(time.perf_counter() - began)
                    assert b"is not used" not in done.stderr, done.stderr
        finally:
            server.terminate()
            server.wait()
        for path in Path(folder, "alone").iterdir():
            assert path.read_bytes() == Path(folder, "served", path.name).read_bytes(), path
    one, other = statistics.median(alone[1:]), statistics.median(served[1:])
    return {"alone": round(one, 2), "served": round(other, 2), "ratio": round(one / other, 2)}


def interactive(args: argparse.Namespace) -> Facts:
    """Seconds from a line to its path, without the first line: median and slowest, by the picture's side."""
    facts: Facts = {}
    with tempfile.TemporaryDirectory() as folder:
        for side in (64, 256):
            words = [sys.executable, "-m", "t2i", "sample", "-i", "-q", "--size", str(side), "-o", folder]
            words += ["--model", args.model]
            pipe = subprocess.PIPE
            process = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, bufsize=1)
            assert process.stdin is not None and process.stdout is not None
            times = []
            for animal in ANIMALS[: args.rounds + 1]:
                began = time.perf_counter()
                process.stdin.write(f"a {animal} in the snow\n")
                process.stdin.flush()
                process.stdout.readline()
                times.append(time.perf_counter() - began)
            process.stdin.close()
            process.wait()
            facts[f"{side} pixels"] = {
                "first": round(times[0], 2),
                "median": round(statistics.median(times[1:]), 2),
                "slowest": round(max(times[1:]), 2),
            }
    return facts


def batch(args: argparse.Namespace) -> Facts:
    """Pictures per second of `t2i sample -f`, against Pipeline.sample in batches of the same size, run before and
    after.

    Also the resident memory of the command after 100 pictures and each tenth of all.
    """
    prompts = [f"a cat number {i} in the snow" for i in range(args.n)]
    before = _loop(args, prompts)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "p.txt").write_text("\n".join(prompts) + "\n", "utf-8")
        words = ["sample", "-f", "p.txt", "--size", "64", "--batch", str(args.batch), "-q", "-o", "{slug}.png"]
        words += ["--model", args.model]
        process = subprocess.Popen([sys.executable, "-m", "t2i", *words], cwd=folder, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        arrived, memory = [], {}
        for number, _ in enumerate(process.stdout, 1):
            arrived.append(time.perf_counter())
            if number == 100 or number % max(args.n // 10, 1) == 0:
                memory[number] = _resident(process.pid)
        if process.wait():
            sys.exit("t2i sample failed")
    after = _loop(args, prompts)
    # pictures come a batch at a time: from the end of the first to the end of the last
    rate = (len(arrived) - args.batch) / (arrived[-1] - arrived[args.batch - 1])
    own = (before + after) / 2
    return {
        "pictures": len(arrived), "batch": args.batch, "pictures/s": round(rate, 2), "the model's own": round(own, 2),
        "ratio": round(rate / own, 3), "RSS in MiB at": memory,
    }  # fmt: skip


def _loop(args: argparse.Namespace, prompts: list[str]) -> float:
    """Pictures per second of the model alone, in another process."""
    part = prompts[: max(args.batch, min(len(prompts), 256) // args.batch * args.batch)]
    code = (
        "import json, sys, time\n"
        "from t2i.pipeline import Pipeline\n"
        "from t2i.sampling import SampleRequest\n"
        "from t2i.store.registry import resolve\n"
        "prompts, size = json.load(sys.stdin), int(sys.argv[1])\n"
        "model, request = Pipeline.load(resolve(sys.argv[2])), SampleRequest(size=64)\n"
        "model.sample(prompts[:size], range(size), request)\n"
        "began = time.perf_counter()\n"
        "for i in range(0, len(prompts), size):\n"
        "    model.sample(prompts[i : i + size], range(size), request)\n"
        "print(len(prompts) / (time.perf_counter() - began))\n"
    )
    return float(command("-c", code, str(args.batch), args.model, input=json.dumps(part).encode()).stdout)


def _resident(pid: int) -> int:
    """Resident memory of a process in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)


def score(args: argparse.Namespace) -> Facts:
    """The times that `t2i score` reports for pictures that are not in its cache."""
    import torch
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder) / "pictures"
        pictures.mkdir()
        g = torch.Generator().manual_seed(0)
        for i in range(args.n):  # smooth and grainy at once: neither trivial nor impossible to compress
            small = torch.rand(8, 8, 3, generator=g).mul(255).byte().numpy()
            image = Image.fromarray(small).resize((256, 256), Image.Resampling.BICUBIC)
            grain = Image.fromarray(torch.randint(0, 256, (256, 256, 3), generator=g, dtype=torch.uint8).numpy())
            Image.blend(image, grain, 0.1).save(pictures / f"{i:04d}.png")
        env = {**os.environ, "T2I_HOME": folder}
        done = command("-m", "t2i", "score", str(pictures), "--json", env=env)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    return {"pictures": args.n, **next(r["time"] for r in reversed(records) if "time" in r)}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("cold", "warm", "interactive", "batch", "score"))
    parser.add_argument("--n", type=positive, default=1000, help="pictures (default 1,000)")
    parser.add_argument("--batch", type=positive, default=8, help="pictures drawn together (default 8)")
    parser.add_argument("--model", default="small", help="what draws, not for score; a folder as its whole path")
    parser.add_argument("--rounds", type=positive, default=5, help="of the first three, at most 10 (default 5)")
    return parser


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    found = {"cold": cold, "warm": warm, "interactive": interactive, "batch": batch, "score": score}[args.what](args)
    sys.stdout.write(json.dumps({args.what: found}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
