"""The table of docs/open-checkpoints.md: ``python -m t2i.open.table`` writes it to stdout."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from t2i.store.pipeline_classes import PIPELINES

HEAD = (
    "family",
    "class in model_index.json",
    "prompts",
    "--init",
    "inpaint",
    "upscale",
    "--negative",
    "--lora",
    "steps",
) + ("guidance",)


def families_table() -> str:
    """One row for each pipeline that can be drawn with, in Markdown."""
    rows: list[Sequence[str]] = [HEAD, ["---"] * len(HEAD)]
    for name, takes in PIPELINES.items():
        can = (
            "with a decoder" if takes.role == "prior" else _yes(takes.role == "base"),
            _yes(takes.init), _yes(takes.inpaint), _yes(takes.role == "upsampler"), _yes(takes.negative),
            _yes(takes.lora),
        )  # fmt: skip
        guidance = "none" if takes.guidance is None else f"{takes.guidance:g}"
        rows.append((takes.family, f"`{name}`", *can, str(takes.steps), guidance))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _yes(offered: object) -> str:
    return "yes" if offered else ""


if __name__ == "__main__":
    sys.stdout.write(families_table())
