"""The model card that training writes into a bundle: stages, data, commands, hardware, hours, attributions, recipe."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from t2i.train.recipe import Recipe

ATTRIBUTION = {
    "fluent3d": "Fluent Emoji (3D), (c) Microsoft Corporation, MIT licence",
    "fluentflat": "Fluent Emoji (flat), (c) Microsoft Corporation, MIT licence",
    "noto": "Noto Emoji, (c) Google, Apache-2.0 / OFL-1.1",
    "twemoji": "Twemoji, (c) Twitter, Inc and other contributors, CC-BY-4.0",
}
FAMILIES = {"unclip": "unCLIP", "imagen": "Imagen", "dalle": "DALL·E", "gan": "a generative adversarial network"}


def hardware(device: torch.device) -> str:
    """One line: the processor or the GPU, and torch's version."""
    if device.type == "cuda":
        place = torch.cuda.get_device_name(device)
    else:
        place = f"{_processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    return f"{place}; torch {torch.__version__}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def write_card(recipe: Recipe, training: dict[str, Any]) -> str:
    """The card, in Markdown.

    training: stage -> what `export.py` notes of it: seconds, samples, recipe, data; of newer trainings also command,
    hardware, parameters, steps, batch, lr, and "reading" where a reader was trained before its base.
    """
    lines = [
        f"# {recipe.name}",
        "",
        f"A text-to-image cascade ({FAMILIES[recipe.family]}), trained with `t2i train`.",
        "",
    ]
    if not training:
        return "\n".join(lines)
    reading = training.get("base", {}).get("reading", {"seconds": 0})
    hours = (sum(facts["seconds"] for facts in training.values()) + reading["seconds"]) / 3600
    lines += ["## Training", "", f"{hours:.2f} hours in all.", ""]
    lines += [
        "| stage | parameters | steps | batch | peak rate | samples | hours |",
        "|---|---|---|---|---|---|---|",
    ]
    for stage, f in training.items():
        cells = [stage, *(_number(f.get(key)) for key in ("parameters", "steps", "batch"))]
        cells += [f"{f['lr']:g}" if "lr" in f else "", f"{f['samples']:,}", f"{f['seconds'] / 3600:.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    if reading["seconds"]:
        what = f"{reading['samples']:,} captions in {reading['step']:,} steps, {reading['seconds'] / 3600:.2f} hours"
        lines += ["", f"The base's text reader was trained first, on {what}."]
    for title, key in (("Command", "command"), ("Data", "data"), ("Hardware", "hardware")):
        said: dict[str, list[str]] = {}
        for stage, f in training.items():
            if f.get(key):
                said.setdefault(f[key], []).append(stage)
        if said:
            lines += ["", f"### {title}", ""]
            mark = "`" if key == "command" else ""
            lines += [f"- {', '.join(stages)}: {mark}{text}{mark}" for text, stages in said.items()]
    sources = [ATTRIBUTION[s] for s in recipe.world.styles if s in ATTRIBUTION]
    if recipe.world.vocabulary != "shapes" and sources and any("built-in" in f["data"] for f in training.values()):
        lines += ["", "## Attributions", "", "Trained on pictures composed from:", ""]
        lines += [f"- {source}" for source in sources]
    lines += ["", "## Recipe", "", "Every number of it, as it was resolved:", ""]
    lines += ["```json", json.dumps(recipe.to_dict(), ensure_ascii=False, indent=1), "```"]
    return "\n".join(lines) + "\n"


def _number(value: Any) -> str:
    """An integer with commas, nothing for anything else."""
    return f"{value:,}" if isinstance(value, int) else ""


def command_line(
    stage: str,
    recipe: str,
    overrides: Sequence[str],
    data: str,
    sprites: Path | None,
    seed: int | None,
    steps: int | None,
    start: Path | None = None,
) -> str:
    """The command line of a training, each path by its last part."""
    words = ["t2i train", *([stage] if stage != "all" else []), f"--recipe {Path(recipe).name}"]
    words += [f"--data {Path(data).name}"] if data != "scenes" else []
    words += [f"--sprites {sprites.name}"] if sprites else []
    words += [f"--set {text}" for text in overrides]
    words += [f"--steps {steps}"] if steps is not None else []
    words += [f"--seed {seed}"] if seed is not None else []
    words += [f"--start {start.name}"] if start else []
    return " ".join(words)
