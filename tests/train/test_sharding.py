"""A network that is cut into pieces by FSDP, one for each process, learns what a whole one learns."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from killing import ended, in_child
from PIL import Image, ImageChops
from safetensors.torch import load_file
from torch import Tensor, nn
from training import trained_by

from t2i.errors import UsageError
from t2i.train.log import read_log
from t2i.train.optim import MuonAdamW, PowerEMA
from t2i.train.recipe import Schedule
from t2i.train.sharding import assign, blocks, check_sharding, launched_team, local, whole
from t2i.train.state import TENSORS, State
from t2i.train.team import SOLO, Team

launch = pytest.importorskip("accelerate.commands.launch", reason="needs accelerate: pip install 't2i[train]'")
LAUNCH = ["--use_fsdp", "--num_machines=1", "--num_processes=2", "--mixed_precision=no", "--dynamo_backend=no"]


def launcher_sets(*options: str) -> dict[str, str]:
    """The environment that `accelerate launch --use_fsdp` gives its processes."""
    every = launch.prepare_multi_gpu_env(launch.launch_command_parser().parse_args([*LAUNCH, *options, "script.py"]))
    return {name: value for name, value in every.items() if name.startswith(("FSDP_", "ACCELERATE_"))}


FSDP = launcher_sets("--fsdp_version", "2")


def under_fsdp(work: Callable[[Team], object], ranks: int = 2) -> None:
    """Do `work` in several processes that FSDP joins, each with its team. An assertion that fails there fails here."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])

    def one(rank: int) -> None:
        group = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({**FSDP, **group, "RANK": str(rank), "LOCAL_RANK": str(rank), "CUDA_VISIBLE_DEVICES": ""})
        work(launched_team("cpu"))

    assert [ended(pid) for pid in [in_child(partial(one, rank)) for rank in range(ranks)]] == [0] * ranks


class Toy(nn.Module):
    """Odd sizes, so that pieces are unequal and some are empty; two blocks, a parameter of one number, a buffer."""

    def __init__(self) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(0)
        self.first, self.last = nn.Linear(4, 7), nn.Linear(7, 1)
        self.blocks = nn.ModuleList(nn.Linear(7, 7) for _ in range(2))
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.register_buffer("shift", torch.tensor(0.25))
        for p in self.parameters():
            p.data = torch.randn(p.shape, generator=g) / 2

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        for block in self.blocks:
            h = h + block(h).tanh()
        out: Tensor = self.last(h) * self.scale + self.shift
        return out


ROWS = torch.randn(4, 4, generator=torch.Generator().manual_seed(1))


def toy_state(team: Team) -> tuple[State, object]:
    net = Toy()
    wrapped = team.wrap(net)
    return State(net, MuonAdamW(net.named_parameters(), lr=0.05, muon=False), PowerEMA(net)), wrapped


def toy_steps(state: State, wrapped: Callable[[Callable[[], Tensor]], Tensor], team: Team, steps: int) -> list[float]:
    """The norms of the gradient. Each process has its rows, in two passes."""
    norms, n = [], len(ROWS) // team.ranks // 2
    for _ in range(steps):
        state.optimizer.zero_grad(set_to_none=True)
        for turn in range(2):
            begin = (2 * team.rank + turn) * n
            with team.no_sync(wrapped):
                (wrapped(lambda: state.module(ROWS[begin : begin + n]).square().mean()) / 2).backward()  # noqa: B023
        norms.append(team.clip_gradients(state.module, 1.0))
        state.step += 1
        state.optimizer.step()
        state.ema.update(state.module, state.step)
    return norms


def test_pieces_take_the_steps_of_the_whole(tmp_path: Path) -> None:
    """Weights, average, moments and the gradient's norm are those of one process; each process holds a piece. What is
    stored is whole, and goes on in one process, and back in several."""
    alone, call = toy_state(SOLO)
    norms = toy_steps(alone, call, SOLO, 3)
    assert norms[0] > 1.0, "else nothing is clipped"
    halfway = {name: t.clone() for name, t in alone.tensors().items()}
    alone.save(tmp_path / "alone", {}, halfway)
    toy_steps(alone, call, SOLO, 3)

    def same(state: State, expected: dict[str, Tensor], team: Team) -> None:
        found = state.tensors(team.leads)
        assert found.keys() == (expected.keys() if team.leads else set())
        for name, t in found.items():
            assert type(t) is Tensor, name
            torch.testing.assert_close(t, expected[name], atol=2e-6, rtol=2e-5, msg=name)

    def check(team: Team) -> None:
        state, wrapped = toy_state(team)
        assert toy_steps(state, wrapped, team, 3) == pytest.approx(norms, rel=1e-5)
        same(state, halfway, team)
        rows = {name: len(local(p)) for name, p in state.module.named_parameters() if p.ndim}
        assert rows == {name: (4 if team.leads else 3) if p.shape[0] == 7 else int(team.leads)
                        for name, p in Toy().named_parameters() if p.ndim}  # fmt: skip
        for p in state.module.parameters():
            assert all(local(state.optimizer.state[p][key]).shape == local(p).shape for key in ("mean", "square"))
        assert all(local(t).shape == local(state.module.state_dict()[k]).shape for k, t in state.ema.weights.items())
        tensors = state.tensors(team.leads)
        team.first(lambda: state.save(tmp_path / "cut", {}, tensors))
        for folder in ("cut", "alone"):
            resumed, wrapped = toy_state(team)
            resumed.load(tmp_path / folder)
            same(resumed, halfway, team)
            toy_steps(resumed, wrapped, team, 3)
            same(resumed, alone.tensors(), team)
        with torch.no_grad():  # drawing uses the whole network, and leaves pieces
            drawn = team.draw(wrapped, lambda: resumed.module(ROWS))
        torch.testing.assert_close(drawn, alone.module(ROWS), atol=1e-5, rtol=1e-4)
        assert all(local(p) is not p for p in resumed.module.parameters() if p.ndim)

    under_fsdp(check)
    back, call = toy_state(SOLO)
    back.load(tmp_path / "cut")
    toy_steps(back, call, SOLO, 3)
    for name, t in back.tensors().items():
        torch.testing.assert_close(t, alone.tensors()[name], atol=2e-6, rtol=2e-5, msg=name)


def test_a_whole_tensor_is_its_own_piece() -> None:
    t = torch.arange(6.0).view(3, 2)
    assert local(t) is t and whole(t) is t
    assign(t, torch.ones(3, 2))
    assert bool((t == 1).all())
    nested = nn.ModuleList([nn.ModuleList([nn.Linear(1, 1)]), nn.Linear(2, 2)])
    assert sorted(str(block) for block in blocks(nested)) == [str(nn.Linear(1, 1)), str(nn.Linear(2, 2))]


def losses(out: Path, stage: str) -> list[float]:
    return [row["loss"] for row in read_log(out / ".train" / stage / "log.jsonl") if row["event"] == "step"]


def same_training(alone: Path, cut: Path, stage: str) -> None:
    """The same loss curve to 1e-5, the same weights in the bundle to its rounding, the same sheets."""
    left, right = losses(alone, stage), losses(cut, stage)
    assert left and right == pytest.approx(left, rel=1e-5, abs=1e-5), stage
    old, new = (load_file(out / ".train" / stage / TENSORS) for out in (alone, cut))
    assert {k: (t.shape, t.dtype) for k, t in old.items()} == {k: (t.shape, t.dtype) for k, t in new.items()}
    for name, t in old.items():
        if not name.startswith("optimizer/"):
            torch.testing.assert_close(new[name], t, atol=1e-5, rtol=1e-4, msg=f"{stage}: {name}")
    for path in (alone / ".train" / stage).glob("sheets/*.png"):
        a, b = (Image.open(file).convert("RGB") for file in (path, cut / path.relative_to(alone)))
        assert max(high for _, high in ImageChops.difference(a, b).getextrema()) <= 1, path  # type: ignore[misc]


@pytest.mark.parametrize(
    ("recipe", "stages"),
    [
        ("dalle_micro", ("vae",)),
        pytest.param("micro", ("clip", "prior", "base", "upsampler256"), marks=pytest.mark.slow),
        pytest.param("blind_micro", ("text", "base", "upsampler256"), marks=pytest.mark.slow),
        pytest.param("dalle_micro", ("clip", "vae", "dalle", "upsampler256"), marks=pytest.mark.slow),
    ],
)
def test_a_cut_network_gives_the_curve_of_a_whole_one(
    recipe: str, stages: tuple[str, ...], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    path, alone, cut = request.getfixturevalue(recipe), tmp_path / "alone", tmp_path / "cut"
    what, changes = stages[0] if len(stages) == 1 else "all", [f"{name}.muon=false" for name in stages]
    trained_by(what, path, changes, out=alone)
    under_fsdp(lambda team: trained_by(what, path, changes, out=cut, team=team))
    for name in stages:
        same_training(alone, cut, name)
        assert (cut / name).is_dir(), "it is not in the bundle"


@pytest.mark.slow
def test_what_pieces_saved_one_process_resumes_and_back(micro: str, tmp_path: Path) -> None:
    changes = ["clip.muon=false", "clip.decay=0"]
    for out, first, second in (("cut-whole", 6, 12), ("whole-cut", 6, 12)):
        cut_first = out == "cut-whole"

        def go(steps: int, cut: bool, out: Path, resume: bool) -> None:
            def run(team: Team) -> None:
                trained_by("clip", micro, changes, "scenes", out, resume, steps=steps, team=team)

            under_fsdp(run) if cut else run(SOLO)

        go(first, cut_first, tmp_path / out, False)
        go(second, not cut_first, tmp_path / out, True)
    trained_by("clip", micro, changes, out=tmp_path / "plain", steps=12)
    for out in ("cut-whole", "whole-cut"):
        same_training(tmp_path / "plain", tmp_path / out, "clip")


def test_what_cannot_be_cut_is_refused(micro: str, gan_micro: str, tmp_path: Path) -> None:
    check_sharding({"base": (Schedule(muon=False), "")})
    with pytest.raises(UsageError, match="cuts those of clip and base") as caught:
        check_sharding({"clip": (Schedule(), ""), "base": (Schedule(), ""), "prior": (Schedule(muon=False), "")})
    assert caught.value.hint == "For AdamW alone write --set clip.muon=false --set base.muon=false"
    with pytest.raises(UsageError, match="base cannot be compiled"):
        check_sharding({"base": (Schedule(muon=False, compile=True), "")})

    def run(team: Team) -> None:
        with pytest.raises(UsageError, match="Muon needs whole matrices"):
            trained_by("clip", micro, out=tmp_path / "m", team=team)
        with pytest.raises(UsageError, match="gan cannot be trained under FSDP: its penalty"):
            trained_by("gan", gan_micro, ["gan.muon=false"], out=tmp_path / "m", team=team)

    under_fsdp(run)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        (launcher_sets(), "version 2 of FSDP"),
        (launcher_sets("--fsdp_version", "2", "--fsdp_offload_params", "true"), "fsdp_offload_params"),
        (launcher_sets("--fsdp_version", "2", "--fsdp_activation_checkpointing", "true"), "activation_checkpointing"),
        ({**FSDP, "ACCELERATE_USE_DEEPSPEED": "true"}, "DeepSpeed"),
    ],
)
def test_other_engines_and_options_are_refused(
    environment: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, given in environment.items():
        monkeypatch.setenv(name, given)
    with pytest.raises(UsageError, match=said):
        launched_team("cpu")
