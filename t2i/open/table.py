"""The table of docs/open-checkpoints.md: ``python -m t2i.open.table`` writes it to stdout."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from t2i.store.pipeline_classes import PIPELINES

HEAD = ("family", "class in model_index.json", "prompts", "--init", "inpaint", "upscale", "vary") + (
    "--negative", "--lora", "steps", "guidance",
)  # fmt: skip


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
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _yes(offered: object) -> str:
    return "yes" if offered else ""


if __name__ == "__main__":
    sys.stdout.write(families_table())
