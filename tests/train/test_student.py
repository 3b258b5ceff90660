"""Students: what they learn, how they are drawn with, exact resume, bad teachers, and the command."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from t2i.cli.app import run
from t2i.diffusion.process import Flow
from t2i.edit.latents import inverted_noise
from t2i.edit.textmask import text_contrast
from t2i.errors import InputError, UsageError
from t2i.pipeline import Conditioning, Pipeline
from t2i.sampling import SampleRequest, SamplingConfig, by_stage
from t2i.stages.stage import Stage
from t2i.store.bundle import read_bundle
from t2i.store.bundle_writing import write_bundle
from t2i.store.manifest import StageEntry
from t2i.train.encoders import Encoders
from t2i.train.log import read_log
from t2i.train.precision import autocast
from t2i.train.recipe import Schedule
from t2i.train.recipes import load_recipe
from t2i.train.run import Pictures, Run
from t2i.train.state import TENSORS
from t2i.train.student.objective import BaseStudent, Shown, StudentObjective
from t2i.train.student.recipe import Distillation, read_recipe
from t2i.train.student.trainer import student_objective, train_student

PROMPTS, SEEDS = ["a cat in the snow", "a red apple on a blue background", "一只猫在雪地里玩耍"], [3, 4, 5]
SMALL = ["base.batch=4", "prior.batch=4", "prior.pool=8"] + [
    f"{stage}.{key}" for stage in ("base", "prior") for key in ("log_every=1", "save_every=2", "precision=fp32")
]


def train(teacher: Path, out: Path, *more: str, steps: int | None = 2, micro: str = "tiny", **rest: Any) -> Any:
    return train_student(read_bundle(teacher), out, micro, [*SMALL, *more], steps=steps, **rest)


@pytest.fixture(scope="module")
def student(tiny: Path, micro: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The student of the tiny bundle after two steps."""
    out = tmp_path_factory.mktemp("student") / "student"
    train(tiny, out, micro=micro)
    return out


class Linear(nn.Module):
    """out = weight x + bias cond: its guided estimate is a network of the same kind."""

    def __init__(self, bias: float) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.tensor(0.4)), nn.Parameter(torch.tensor(bias))

    def forward(self, x_t: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        return self.weight * x_t + self.bias * cond


class LinearStudent(StudentObjective):
    def shown(self, step: int, g: torch.Generator) -> Shown:
        x0 = torch.randn(64, 3, generator=g)
        cond = torch.randn(64, 1, generator=g) * (torch.rand(64, 1, generator=g) >= self.table.drop_text)
        return Shown(x0, cond, torch.zeros(64, 1), lambda stage: stage.net)


def linear(
    tmp_path: Path, kind: type[LinearStudent] = LinearStudent, *, teacher_steps: int = 8, guidance: float = 3.0,
    steps: int = 0, **table: Any,
) -> LinearStudent:  # fmt: skip
    recipe = load_recipe("tiny")
    made = Run(recipe, tmp_path, Pictures(recipe))
    entry = StageEntry("base", "base", "base", SamplingConfig(steps=teacher_steps, guidance=guidance))
    stage = Stage("base", Linear(0.5), Flow(), "x0", entry.defaults)
    return kind(made, entry, stage, Encoders(), Distillation(Schedule(steps), **table), {})


def learn(task: StudentObjective, steps: int, lr: float = 0.1) -> tuple[float, float]:
    """The first and the last loss."""
    optimizer = torch.optim.Adam(task.module.parameters(), lr=lr)
    losses = []
    for step in range(steps):
        optimizer.zero_grad()
        loss, _ = task.loss(step)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses[0], losses[-1]


def test_a_linear_teachers_guided_estimate_is_learned(tmp_path: Path) -> None:
    """At weight 3 and with nothing of the condition at 0: the bias becomes three times as large."""
    task = linear(tmp_path)
    first, last = learn(task, 80)
    assert isinstance(task.module, Linear) and last < 0.01 * first
    assert task.module.weight.item() == pytest.approx(0.4, abs=0.05)
    assert task.module.bias.item() == pytest.approx(1.5, abs=0.05)
    assert float(task.teacher.net.bias) == 0.5  # type: ignore[arg-type]


def linear_teacher(x: Tensor, sigma: Tensor, cond: Tensor) -> Tensor:
    return 0.4 * x / (1 + sigma[:, None]) + 1.5 * cond


def test_a_step_leads_where_the_steps_of_the_teacher_lead(tmp_path: Path) -> None:
    """What a student learns from itself, again and again, from any beginning: an Euler step with its estimate ends
    where as many guided Euler steps end as it stands for."""
    task = linear(tmp_path, substeps=3, draw_steps=4, teacher_steps=64)
    t = torch.tensor([0.999, 0.74925, 0.4995, 0.24975])
    g = torch.Generator().manual_seed(0)
    x, cond, flow = torch.randn(4, 3, generator=g), torch.randn(4, 1, generator=g), Flow()
    x = flow.sigma(t)[:, None] * x

    def learned(times: int, x: Tensor, sigma: Tensor, cond: Tensor) -> Tensor:
        if not times:
            return torch.full_like(x, 7.0)
        return task.learned(linear_teacher, partial(learned, times - 1), x, flow.t(sigma), cond, 3)

    levels = [flow.sigma((t - 0.333 * i / 4).clamp(min=0))[:, None] for i in range(4)]
    wanted = x
    for a, b in itertools.pairwise(levels):
        x0_hat = linear_teacher(wanted, a[:, 0], cond)
        wanted = x0_hat + b / a * (wanted - x0_hat)
    for times, same in ((3, True), (2, False)):
        made = learned(times, x, levels[0][:, 0], cond)
        assert torch.allclose(made + levels[3] / levels[0] * (x - made), wanted, rtol=1e-3, atol=1e-3) is same
    assert (task.defaults.steps, task.defaults.sampler, task.defaults.distilled) == (4, "euler", 3.0)


MEAN, SPREAD = 0.5, 0.3


def gaussian_teacher(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
    """E[x0 | x] of data N(MEAN, SPREAD^2)."""
    s = sigma[:, None] ** 2
    return (SPREAD**2 * x + s * MEAN) / (SPREAD**2 + s)


@pytest.mark.parametrize("draw_steps", [1, 2, 5])
def test_the_consistency_function_of_a_gaussian_is_what_stays(draw_steps: int, tmp_path: Path) -> None:
    """The solution of its ODE in closed form is learned from itself, but for an error of second order in the step of
    the teacher. At small noise, far from the ends of the segments."""
    task, flow = linear(tmp_path, substeps=8, draw_steps=draw_steps, teacher_steps=1000), Flow()
    t = torch.tensor([0.95, 0.73, 0.55, 0.37, 0.16])
    x = MEAN + flow.sigma(t)[:, None] * torch.linspace(-2, 2, 7)

    def exact(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        segment = 0.999 / draw_steps
        end = flow.sigma(segment * ((flow.t(sigma) / segment).ceil() - 1))[:, None]
        sigma = sigma[:, None]
        at_end = MEAN + (x - MEAN) * ((SPREAD**2 + end**2) / (SPREAD**2 + sigma**2)).sqrt()
        return (at_end - end / sigma * x) / (1 - end / sigma)

    def error(substeps: int) -> float:
        made = task.learned(gaussian_teacher, exact, x, t, None, substeps)
        return float((made - exact(x, flow.sigma(t), None)).abs().max())

    assert error(64) < 2e-3 and error(64) < 0.35 * error(32)


class Polynomial(nn.Module):
    """out = w(t) x_t + b(t)."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(6, 2))

    def forward(self, x_t: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        w = (t[:, None] ** torch.arange(6)) @ self.w
        return w[:, :1] * x_t + w[:, 1:]


class GaussianStudent(LinearStudent):
    def shown(self, step: int, g: torch.Generator) -> Shown:
        x0 = MEAN + SPREAD * torch.randn(256, 3, generator=g)
        return Shown(x0, torch.zeros(256, 1), torch.zeros(256, 1), lambda stage: stage.net)


def test_one_step_draws_a_gaussian(tmp_path: Path) -> None:
    """One step of the teacher draws nothing but the mean; one of its student has the data's spread."""
    made = linear(tmp_path, GaussianStudent, substeps=16, draw_steps=1, teacher_steps=64, guidance=1.0, steps=400)
    made.teacher = made.student = Stage("base", Polynomial(), Flow(), "x0", made.entry.defaults)
    made.teacher.denoiser = lambda *args: gaussian_teacher  # type: ignore[method-assign]
    made.module = Polynomial()
    made.student = replace(made.student, net=made.module)
    learn(made, 400, lr=0.05)
    noise = torch.randn(4000, 1, generator=torch.Generator().manual_seed(1))
    x, sigma = 999 * noise, torch.full((4000,), 999.0)
    drawn = made.student.denoiser(made.module, None, SamplingConfig())(x, sigma, torch.zeros(4000, 1)).detach()
    assert float(gaussian_teacher(x, sigma, None).std()) < 1e-3
    assert float(drawn.mean()) == pytest.approx(MEAN, abs=0.04)
    assert float(drawn.std()) == pytest.approx(SPREAD, rel=0.15)


def test_a_teacher_is_not_asked_below_its_last_level(tmp_path: Path) -> None:
    """With 8 steps that is 1/8 of the time; there and below, its estimate is the result."""
    task, flow, asked = linear(tmp_path, substeps=32, draw_steps=2), Flow(), list[Tensor]()

    def student(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        asked.append(flow.t(sigma))
        return torch.zeros_like(x)

    t = torch.tensor([0.9, 0.16, 0.13, 0.05])
    made = task.learned(gaussian_teacher, student, torch.ones(4, 1), t, None, 32)
    assert asked[0].tolist() == pytest.approx([0.9 - 0.999 / 64, 0.16 - 0.999 / 64, 0, 0], abs=1e-4)
    wanted = gaussian_teacher(torch.ones(4, 1), flow.sigma(t), None)
    assert torch.equal(made[2:], wanted[2:]) and bool((made[:2] != wanted[:2]).all())


def test_the_steps_of_a_student_grow(tmp_path: Path) -> None:
    task = linear(tmp_path, substeps=5, steps=100)
    assert [task.substeps(step) for step in (0, 25, 50, 99)] == [1, 3, 5, 5]


def test_a_student_that_asks_itself_has_the_same_gradients_in_bfloat16(tiny: Path, micro: str, tmp_path: Path) -> None:
    """No weight that autocast cast for an estimate without gradients is used for one with them."""
    bundle, recipe = read_bundle(tiny), load_recipe(micro)
    run = Run(recipe, tmp_path, Pictures(recipe))
    table = read_recipe({"base.substeps": "4", "base.draw_steps": "1", "base.steps": "1", "base.batch": "8"})
    found = []
    for precision in ("fp32", "bf16"):
        task = student_objective(run, bundle, bundle.manifest.stage("base"), table)
        with autocast(precision, torch.device("cpu")):
            task.loss(1)[0].backward()  # type: ignore[no-untyped-call]
        found.append(torch.cat([torch.zeros(p.numel()) if p.grad is None else p.grad.flatten()
                                for p in task.module.parameters()]))  # fmt: skip
    assert float(torch.cosine_similarity(*found, dim=0)) > 0.9


@pytest.mark.slow
def test_a_tiny_base_comes_nearer_to_the_guided_estimate(tiny: Path, micro: str, tmp_path: Path) -> None:
    train(tiny, tmp_path / "m", "prior.steps=0", "base.steps=40", "base.lr=1e-2", "base.warmup=1", "base.batch=16",
          micro=micro, steps=None)  # fmt: skip
    rows = [row for row in read_log(tmp_path / "m/.train/base-student/log.jsonl") if row["event"] == "step"]
    first, last = (sum(row["loss"] for row in part) for part in (rows[:5], rows[-5:]))
    assert last < 0.6 * first
    made = read_bundle(tmp_path / "m").manifest
    assert made.stage("base").defaults.distilled == 2.0 and made.stage("prior").defaults.distilled is None


def test_what_is_written(student: Path, tiny: Path) -> None:
    made, old = read_bundle(student), read_bundle(tiny)
    assert made.manifest.name == "tiny-student" and made.manifest.sizes == old.manifest.sizes
    assert {e.name: e.defaults.distilled for e in made.manifest.stages} == {
        "clip": None, "prior": 1.5, "base": 2.0, "upsampler64": None
    }  # fmt: skip
    base = made.manifest.stage("base").defaults
    assert base == replace(old.manifest.stage("base").defaults, distilled=2.0, z_guidance=2.0)
    same = {e.name: made.manifest.digest(e) == old.manifest.digest(e) for e in old.manifest.stages}
    assert same == {"clip": True, "prior": False, "base": False, "upsampler64": True}
    notes = made.manifest.notes["training"]["base-student"]
    assert notes["teacher"] == old.manifest.digest(old.manifest.stage("base")) and notes["steps"] == 2
    assert "## Student" in made.card() and (student / ".train/base-student/sheets/0000002.png").is_file()


class Counted(nn.Module):
    """A network, and how many rows it was asked for."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.config, self.rows = net, net.config, 0

    def forward(self, x_t: Tensor, t: Tensor, cond: Any) -> Tensor:
        self.rows += len(x_t)
        out: Tensor = self.net(x_t, t, cond)
        return out


@pytest.mark.parametrize(
    ("request_", "rows"),
    [
        (SampleRequest(16), {"base": 4, "prior": 3 * 2}),
        (SampleRequest(16, stages=by_stage(guidance={"base": 5.0, "prior": 1.0})), {"base": 8, "prior": 3 * 2 * 2}),
        (SampleRequest(16, negative="a cat"), {"base": 12, "prior": 3 * 2 * 3}),
        (SampleRequest(16, stages=by_stage(steps={"base": 2})), {"base": 2, "prior": 3 * 2}),
    ],
)
def test_one_evaluation_a_step_at_the_teachers_guidance(
    student: Path, request_: SampleRequest, rows: dict[str, int]
) -> None:
    pipeline = Pipeline.load(student)
    for name in rows:
        pipeline.stages[name].net = Counted(pipeline.stages[name].net)
    pipeline.sample(PROMPTS[:1], SEEDS[:1], request_)
    assert {name: pipeline.stages[name].net.rows for name in rows} == rows


def perfect(pipeline: Pipeline, name: str, weight: float) -> None:
    """Put the student that has learned all of a base into its place: its network computes the guided estimate."""
    net = pipeline.stages[name].net

    class Perfect(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.config = net, net.config

        def forward(self, x_t: Tensor, t: Tensor, cond: Any) -> Tensor:
            null = self.net(x_t, t, replace(cond, tokens_keep=torch.zeros(len(x_t), dtype=torch.bool)))
            out: Tensor = null + weight * (self.net(x_t, t, cond) - null)
            return out

    stage = pipeline.stages[name]
    stage.net, stage.defaults = Perfect(), replace(stage.defaults, distilled=weight, z_guidance=weight)


@pytest.mark.parametrize(
    "request_",
    [
        SampleRequest(16),
        SampleRequest(16, stages=by_stage(guidance={"base": 4.0})),
        SampleRequest(16, stages=by_stage(guidance={"base": 1.0})),
        SampleRequest(16, negative="a house at night"),
        SampleRequest(16, prior="none"),
    ],
)
def test_guidance_and_a_negative_prompt_mean_what_they_mean_for_the_teacher(
    tiny: Path, request_: SampleRequest
) -> None:
    teacher, learned = Pipeline.load(tiny), Pipeline.load(tiny)
    perfect(learned, "base", 2.0)
    wanted, made = (p.sample(PROMPTS, SEEDS, request_).images for p in (teacher, learned))
    assert torch.allclose(made, wanted, atol=2e-4)


def test_masks_from_words_and_inversions_are_those_of_the_teacher(tiny: Path) -> None:
    """Both ask for estimates without guidance."""
    teacher, learned = Pipeline.load(tiny), Pipeline.load(tiny)
    perfect(learned, "base", 2.0)
    picture = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    wanted, made = (text_contrast(p, picture[0], "a cat") for p in (teacher, learned))
    assert torch.allclose(made, wanted, atol=1e-4 * float(wanted.max()) + 1e-5)
    for text in (PROMPTS[:1], []):
        conditions = [Conditioning(p.encode(text)[0] if text else None, p.embed(picture)) for p in (teacher, learned)]
        wanted, made = (
            inverted_noise(p, picture, c, steps=3) for p, c in zip((teacher, learned), conditions, strict=True)
        )
        assert torch.allclose(made, wanted, atol=1e-3)


def test_a_picture_alone_and_in_a_batch(student: Path) -> None:
    pipeline = Pipeline.load(student)
    together = pipeline.sample(PROMPTS, SEEDS).images
    for i, (prompt, seed) in enumerate(zip(PROMPTS, SEEDS, strict=True)):
        assert torch.allclose(pipeline.sample([prompt], [seed]).images[0], together[i], atol=1e-4)


def test_a_training_that_was_stopped_goes_on_to_the_same_weights(tiny: Path, micro: str, tmp_path: Path) -> None:
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    more = ["base.substeps=3", "base.draw_steps=2"]
    train(tiny, whole, *more, micro=micro, steps=3)
    for asked in (1, 4):  # in the base's training, and in the prior's
        count = itertools.count()
        resume = (halves / ".train/base-student" / TENSORS).is_file()
        train(tiny, halves, *more, micro=micro, steps=3, resume=resume, stop=lambda n=asked, c=count: next(c) >= n)
        assert not (halves / "bundle.json").exists()
    train(tiny, halves, *more, micro=micro, steps=3, resume=True)
    train(tiny, tmp_path / "one", *more, "prior.steps=3", "base.steps=0", micro=micro, steps=None)
    train(tiny, tmp_path / "one", *more, "prior.steps=3", "base.steps=3", micro=micro, steps=None, resume=True)
    first, second = (read_bundle(folder).manifest for folder in (whole, halves))
    third = read_bundle(tmp_path / "one").manifest  # one stage after the other
    assert [first.digest(e) for e in first.stages] == [second.digest(e) for e in second.stages]
    assert [first.digest(e) for e in first.stages] == [third.digest(e) for e in third.stages]
    with pytest.raises(InputError, match="holds a model"):
        train(tiny, whole, micro=micro)
    with pytest.raises(InputError, match="another substeps"):
        train(tiny, halves, "base.substeps=2", micro=micro, resume=True)
    train(tiny, halves, "prior.steps=0", micro=micro, steps=None, overwrite=True, dry_run=True)


@pytest.mark.parametrize(
    ("fixture", "message"), [("gan", "has no base"), ("dalle", "has no base"), ("student", "has no guidance to teach")]
)
def test_a_model_that_cannot_teach(
    fixture: str, message: str, micro: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        train(request.getfixturevalue(fixture), tmp_path / "out", micro=micro)
    assert caught.value.hint and not (tmp_path / "out").exists()


def test_a_teacher_without_guidance_has_only_steps_to_teach(tiny: Path, micro: str, tmp_path: Path) -> None:
    old = read_bundle(tiny)
    plain = tuple(replace(e, defaults=replace(e.defaults, guidance=1.0)) for e in old.manifest.stages)
    stages = {e.name: old.load_stage(e.name) for e in plain}
    write_bundle(tmp_path / "plain", replace(old.manifest, stages=plain), stages, old.tokenizer_json(), "# plain\n")
    with pytest.raises(UsageError, match="has no guidance to teach"):
        train(tmp_path / "plain", tmp_path / "out", micro=micro)
    train(tmp_path / "plain", tmp_path / "out", "base.substeps=2", "base.draw_steps=2", micro=micro, steps=1)
    base = read_bundle(tmp_path / "out").manifest.stage("base").defaults
    assert (base.steps, base.sampler, base.distilled) == (2, "euler", None)


def test_a_student_teaches_steps(student: Path, micro: str, tmp_path: Path) -> None:
    """What it draws with stays: its guidance is learned already."""
    train(student, tmp_path / "out", "prior.steps=0", "base.substeps=2", "base.draw_steps=1", micro=micro, steps=1)
    made, old = read_bundle(tmp_path / "out").manifest, read_bundle(student).manifest
    assert made.name == old.name == "tiny-student" and made.stage("prior") == old.stage("prior")
    taught = old.stage("base").defaults
    wanted = replace(taught, steps=1, sampler="euler", schedule="uniform_t", quality_steps=taught.steps)
    assert made.stage("base").defaults == wanted and wanted.distilled == 2.0
    pipeline = Pipeline.load(tmp_path / "out")
    pipeline.stages["base"].net = net = Counted(pipeline.stages["base"].net)
    pipeline.sample(PROMPTS[:1], SEEDS[:1], SampleRequest(16))
    assert net.rows == 1


def test_a_base_that_reads_only_a_text_has_a_student(blind: Path, blind_micro: str, tmp_path: Path) -> None:
    train(blind, tmp_path / "out", micro=blind_micro)
    assert read_bundle(tmp_path / "out").manifest.stage("base").defaults.distilled == 2.0
    assert Pipeline.load(tmp_path / "out").sample(PROMPTS, SEEDS).images.isfinite().all()


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("base.substep", "did you mean 'base.substeps'"),
        ("lr", "write base.KEY or prior.KEY"),
        ("upsampler256.lr", "write base.KEY or prior.KEY"),
        ("base.schedule.stepz", "did you mean 'base.steps'"),
    ],
)
def test_a_key_that_is_not_known(key: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_recipe({key: "2"})
    assert read_recipe({"base.schedule.steps": "7", "prior.lr": "1e-4"}).base.schedule.steps == 7
    with pytest.raises(UsageError, match="substeps"):
        read_recipe({"base.substeps": "0"})


def test_the_command(
    tiny: Path, student: Path, micro: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Train, draw, change the guidance, edit; and what is refused."""
    monkeypatch.chdir(tmp_path)

    def t2i(*args: str, code: int = 0) -> tuple[list[str], str]:
        got = run([*args, *(["--device", "cpu"] if args[0] in ("train", "sample", "vary", "inpaint") else [])])
        out, err = capsys.readouterr()
        assert got == code, err
        return out.splitlines(), err

    sets = [word for text in SMALL for word in ("--set", text)]
    command = ["train", "student", "--start", str(tiny), "--recipe", micro, *sets, "--out", "mine"]
    shown = json.loads(t2i(*command, "--dry-run", "--json")[0][0])
    assert [row["stage"] for row in shown["stages"]] == ["base-student", "prior-student"]
    assert t2i(*command, "--steps", "1")[0] == ["mine"]
    assert "distilled 2.0" in "\n".join(t2i("models", "show", "mine")[0])
    (picture,), _ = t2i("sample", PROMPTS[0], "--model", "mine", "--seed", "1", "--size", "16")
    (other,), _ = t2i("sample", PROMPTS[0], "--model", "mine", "--seed", "1", "--size", "16", "--guidance", "4")
    assert Path(picture).read_bytes() != Path(other).read_bytes()
    assert t2i("sample", "--replay", other, "--model", "mine")[0] == [f"{other}: identical"]
    t2i("vary", picture, "--model", "mine", "--seed", "1", "--size", "16")
    t2i("inpaint", picture, PROMPTS[0], "--box", "2,2,8,8", "--model", "mine", "--seed", "1")
    assert "needs --start" in t2i("train", "student", code=2)[1]
    assert "is the teacher" in t2i(*command[:-1], str(tiny), code=2)[1]
    assert "none of the shipped recipes" in t2i("train", "student", "--start", str(tiny), "--out", "x", code=2)[1]
    Path("one").mkdir()
    (Path("one") / "a.png").write_bytes(Path(picture).read_bytes())
    lora = ["train", "lora", "--data", "one", "--token", "<mine>", "--model", "mine", "--steps", "1"]
    assert t2i(*lora, "-o", "lora.safetensors")[0] == ["lora.safetensors"]


def test_a_base_that_paints_parts_learns_to_paint_parts(tiny: Path, micro: str, tmp_path: Path) -> None:
    """The known part of a masked example is shown to teacher and student alike."""
    bundle, recipe = read_bundle(tiny), load_recipe(micro)
    made = Run(recipe, tmp_path, Pictures(recipe))
    task = student_objective(
        made, bundle, bundle.manifest.stage("base"), read_recipe({"base.masked": "1", "base.batch": "4"})
    )
    assert isinstance(task, BaseStudent)
    examples = task.shown(0, torch.Generator().manual_seed(0))
    seen: list[Tensor] = []

    class Spy(nn.Module):
        config, weight = task.teacher.config, nn.Parameter(torch.zeros(1))

        def forward(self, x_t: Tensor, t: Tensor, cond: Any) -> Tensor:
            seen.append(x_t)
            return x_t[:, :3]

    examples.bind(replace(task.teacher, net=Spy()))(torch.randn(8, 3, 16, 16), torch.ones(8), examples.cond)
    mask = seen[0][:, 3:4]
    assert bool(((mask > 0) & (mask < 1)).sum() == 0) and 0 < float(mask.mean()) < 1
    assert torch.equal(seen[0][:4, 4:], examples.x0 * (1 - mask[:4])) and torch.equal(mask[:4], mask[4:])
