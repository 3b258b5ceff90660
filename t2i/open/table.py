"""The tables of docs/open-checkpoints.md: `python -m t2i.open.table` writes them to stdout."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from t2i.store.hub_names import SHORT_NAMES
from t2i.store.pipeline_classes import PIPELINES

HEAD = ("family", "class in model_index.json", "prompts", "--init", "inpaint", "upscale", "vary") + (
    "--negative", "--lora", "steps", "guidance",
)  # fmt: skip

RAIL, RAIL_PLUS, APACHE = "CreativeML Open RAIL-M", "CreativeML Open RAIL++-M", "Apache-2.0"
STABILITY, DEEPFLOYD = "Stability AI Community", "DeepFloyd IF"
LICENCES = {
    "karlo": RAIL,
    "karlo-variations": RAIL,
    "kandinsky-2.2": APACHE,
    "kandinsky-2.2-inpaint": APACHE,
    "kandinsky-2.2-prior": APACHE,
    "if-xl": DEEPFLOYD,
    "if-xl-stage2": DEEPFLOYD,
    "sd-1.5": RAIL,
    "sdxl": RAIL_PLUS,
    "sd-3.5-medium": STABILITY,
    "sd-3.5-large": STABILITY,
    "sd-x4-upscaler": RAIL_PLUS,
    "sd-latent-upscaler": RAIL_PLUS,
    "flux-schnell": APACHE,
    "flux-dev": "FLUX.1 [dev] Non-Commercial",
    "pixart-sigma": RAIL_PLUS,
    "lumina-2": APACHE,
    "qwen-image": APACHE,
    "auraflow": APACHE,
}
"""Short name -> the licence that the model's card named when it was published, where we are sure of it. For readers
of the page alone: `t2i models pull` tells what the hub says."""
TOGETHER = {
    "kandinsky-2.2": "kandinsky-2.2-prior+kandinsky-2.2",
    "kandinsky-2.2-inpaint": "kandinsky-2.2-prior+kandinsky-2.2-inpaint",
    "kandinsky-2.2-prior": "kandinsky-2.2-prior+kandinsky-2.2",
    "if-xl": "if-xl+if-xl-stage2",
    "if-xl-stage2": "if-xl+if-xl-stage2",
}
"""Short name -> what --model takes where it is not the name alone."""


def families_table() -> str:
    """One row for each pipeline that can be drawn with, in Markdown."""
    rows: list[Sequence[str]] = [HEAD, ["---"] * len(HEAD)]
    for name, takes in PIPELINES.items():
        draws = "with a decoder" if takes.role == "prior" else _yes(takes.role == "base")
        varies = "with its prior" if takes.embedded and takes.role == "base" else _yes(takes.role == "variation")
        offers = (takes.init, takes.inpaint, takes.role == "upsampler")
        can = (draws, *map(_yes, offers), varies, _yes(takes.negative), _yes(takes.lora))
        guidance = "none" if takes.guidance is None else f"{takes.guidance:g}"
        rows.append((takes.family, f"`{name}`", *can, str(takes.steps), guidance))
    return _markdown(rows)


def names_table() -> str:
    """One row for each short name of a published checkpoint, in Markdown."""
    rows: list[Sequence[str]] = [("name", "--model", "repository", "licence"), ["---"] * 4]
    for name, repository in SHORT_NAMES.items():
        card = f"https://huggingface.co/{repository}"
        model = TOGETHER.get(name, name)
        rows.append((name, f"`{model}`", f"[{repository}]({card})", LICENCES.get(name, "see its card")))
    return _markdown(rows)


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _yes(offered: object) -> str:
    return "yes" if offered else ""


if __name__ == "__main__":
    sys.stdout.write(f"{families_table()}\n{names_table()}")
