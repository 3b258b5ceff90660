"""What the table of pipelines says, against the installed diffusers and the page."""

from __future__ import annotations

import inspect
from pathlib import Path

import diffusers
import pytest

from t2i.open.table import LICENCES, TOGETHER, families_table, names_table
from t2i.store.hub_names import SHORT_NAMES
from t2i.store.pipeline_classes import PIPELINES

PAGE = Path(__file__).parents[2] / "docs" / "open-checkpoints.md"


def parameters(name: str) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(getattr(diffusers, name).__call__).parameters)


@pytest.mark.parametrize("name", PIPELINES)
def test_the_library_takes_what_the_table_says(name: str) -> None:
    takes, there = PIPELINES[name], parameters(name)
    stem = "decoder_" if name.startswith("UnCLIP") else ""  # its stages have arguments of their own
    assert there[f"{stem}num_inference_steps"].default == takes.steps
    if takes.guidance is not None:
        assert there[f"{stem}{takes.weight}"].default == takes.guidance
    if takes.negative and not takes.embedded:  # a decoder's is read by its prior
        assert "negative_prompt" in there
    assert "generator" in there
    assert hasattr(getattr(diffusers, name), "load_lora_weights") == takes.lora
    if takes.init is not None:
        assert {"image", "strength"} <= set(parameters(takes.init))
    if takes.inpaint is not None:
        assert {"image", "mask_image"} <= set(parameters(takes.inpaint))


def test_the_page_has_the_tables() -> None:
    page = PAGE.read_text("utf-8")
    assert families_table() in page
    assert names_table() in page


def test_the_names_are_those_that_can_be_pulled() -> None:
    joined = {part for model in TOGETHER.values() for part in model.split("+")}
    assert {*LICENCES, *TOGETHER, *joined} <= set(SHORT_NAMES)
