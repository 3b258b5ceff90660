"""The rate of drawing beside that of its convolutions: what is counted, and the whole program on a tiny bundle."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from t2i.lab.rates import Conv, convolutions, main
from t2i.nets import linear
from t2i.pipeline import Pipeline
from t2i.sampling import SampleRequest


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", [0, 1])
def test_the_work_of_a_convolution_is_what_torch_counts(stride: int, padding: int) -> None:
    conv = Conv((2, 3, 9, 12), (5, 3, 3, 3), (stride, stride), (padding, padding))
    with FlopCounterMode(display=False) as counter:
        out = conv.call(torch.float32)()
    assert out.shape[:2] == (2, 5)
    assert conv.gflop == pytest.approx(counter.get_total_flops() / 1e9)


def test_all_convolutions_of_a_drawing_are_found(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Pipeline.load(tiny)

    def draw() -> None:
        pipeline.sample(["a cat"], [1], SampleRequest())

    draw()  # the text is encoded from here on
    monkeypatch.setattr(linear, "by_onednn", lambda: False)  # whose 1x1 convolutions torch would count as products
    with FlopCounterMode(display=False) as counter:
        draw()
    counted = sum(n for op, n in counter.get_flop_counts()["Global"].items() if "convolution" in str(op))
    assert sum(conv.gflop * n for conv, n in convolutions(pipeline, draw).items()) == pytest.approx(counted / 1e9)


def test_the_program_measures_a_model(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = Pipeline.load(tiny).manifest.size
    words = ["--model", str(tiny), "--n", "2", "--rounds", "1", "--size", str(size), "--dtype", "float32", "--profile"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)["float32"]
    assert found["pictures"] == 2
    assert found["GFLOP/s"]["drawing"] <= found["GFLOP/s"]["the fastest of them"]
    assert 0 < found["convolutions' share of the GFLOP"] <= 1
    assert any(name.startswith("aten::mkldnn_convolution") or "conv" in name for name in found["milliseconds"])
