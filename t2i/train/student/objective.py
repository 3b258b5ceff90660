"""Trains a student: a network that starts as a copy of its teacher and learns the teacher's guided estimate, which
takes the teacher two evaluations, as its own (Meng 2022, arXiv 2210.03142, section 3.1). On request one step of the
student stands for several guided steps of the teacher (multistep consistency distillation: Heek 2024, arXiv
2403.06807).

Teacher and student are shown the same noised examples and conditions. In a share of them the text is left out: there
guidance does nothing, and the student keeps what guidance leads away from. So another weight of guidance than the
teacher's, and a negative prompt, still mean what they mean for the teacher (`Stage.denoiser`).
Shapes: B examples, E width of the embedding, S pixels a side.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from t2i.diffusion.denoiser import Denoiser, Net
from t2i.diffusion.loss import DenoisingObjective, Levels
from t2i.diffusion.process import expand
from t2i.sampling import SamplingConfig, given
from t2i.stages.base import bound_net, guided_cond, reads_masks, sample_base
from t2i.stages.prior import prior_cond
from t2i.stages.stage import InpaintCond, Stage
from t2i.store.manifest import StageEntry
from t2i.train import streams
from t2i.train.encoders import Encoders
from t2i.train.masking import random_masks
from t2i.train.objective import Trainable
from t2i.train.objectives.base import read_examples
from t2i.train.pool import EmbeddingPool
from t2i.train.prior_augment import augment
from t2i.train.run import Run
from t2i.train.sheets import COLUMNS
from t2i.train.student.recipe import BaseDistillation, Distillation, PriorDistillation

GROWTH = 0.5
"""The share of the training in which `substeps` grow from 1 to their number: what a student learns from its own
estimates at smaller times is worth learning once those are good (Song 2023, arXiv 2310.14189, section 3.4)."""


@dataclass(frozen=True)
class Shown:
    """B examples: x0 (B, ...), their condition, and the one that guidance leads away from. bind: a stage's network with
    its fixed inputs bound."""

    x0: Tensor
    cond: Any
    uncond: Any
    bind: Callable[[Stage], Net]


class StudentObjective(Trainable):
    """The weighted squared distance of the student's estimate to what it learns from the teacher's.

    teacher: its stage, with its defaults. entry: of the teacher. facts: what a checkpoint must agree with.
    """

    table: Distillation
    uncut = "a student sees its batch at once"

    def __init__(
        self, run: Run, entry: StageEntry, teacher: Stage, encoders: Encoders, table: Distillation,
        facts: Mapping[str, Any],
    ) -> None:  # fmt: skip
        self.run, self.entry, self.encoders, self.table = run, entry, encoders, table
        self.name, self.schedule = student_name(entry), table.schedule
        steps = {"draw_steps": self.draw_steps} if table.substeps > 1 else {}  # else they change no weight
        self.facts = {**facts, "substeps": table.substeps, **steps}
        self.teacher = teacher
        self.teacher.net.to(run.device).eval().requires_grad_(False)
        self.module: nn.Module = copy.deepcopy(teacher.net).requires_grad_(True)
        self.student = replace(teacher, net=self.module)
        self.examples_seed = streams.examples_seed(run.recipe.seed, "student")
        low = given(entry.defaults.t_end, 0.0) / teacher.process.t_range[1]
        self.objective = DenoisingObjective(judge="flow", levels=Levels("uniform", low=low, stratified=True))

    @property
    def draw_steps(self) -> int:
        """The steps that the student will draw with."""
        return given(self.table.draw_steps, given(self.entry.defaults.steps, 8))

    @property
    def defaults(self) -> SamplingConfig:
        """How the student is sampled: with the teacher's guidance, in one evaluation a step, and in as many steps as
        the teacher where quality counts. Where a step stands for several, they are the equal Euler steps that it has
        learned."""
        old = self.entry.defaults
        longer = max(self.draw_steps, given(old.steps, 8), given(old.quality_steps, 1))
        found = replace(old, steps=self.draw_steps, quality_steps=longer if longer > self.draw_steps else None)
        if is_guided(self.entry):
            found = replace(found, distilled=found.guidance)
        return replace(found, sampler="euler", schedule="uniform_t") if self.table.substeps > 1 else found

    @abstractmethod
    def shown(self, step: int, g: torch.Generator) -> Shown:
        """The examples of a step."""

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        g = streams.noise(self.run.recipe.seed, self.name, step)
        examples, process = self.shown(step, g), self.teacher.process
        t = self.objective.levels.draw(process, len(examples.x0), g).clamp(min=1e-4).to(examples.x0.device)
        eps = torch.randn(examples.x0.shape, generator=g).to(examples.x0.device)
        x = examples.x0 + expand(process.sigma(t), eps) * eps
        student = self.student.denoiser(examples.bind(self.student), None, SamplingConfig())
        # Before the student is asked without gradients: an autocast may keep the weights that it cast then.
        made = student(x, process.sigma(t), examples.cond)
        with torch.no_grad():
            teacher = self.teacher.denoiser(examples.bind(self.teacher), examples.uncond, self.entry.defaults)
            wanted = self.learned(teacher, student, x, t, examples.cond, self.substeps(step))
        error = (made - wanted).square().flatten(1).mean(1)
        weight = self.objective.weight(process.alpha_t(t), process.sigma_t(t))
        return (weight * error).mean(), {"mse": float(error.detach().mean())}

    def substeps(self, step: int) -> float:
        """The teacher's steps in one of the student's, at a step of the training."""
        grown = min(1.0, step / max(1.0, GROWTH * self.schedule.steps))
        return 1 + (self.table.substeps - 1) * grown

    def learned(self, teacher: Denoiser, student: Denoiser, x: Tensor, t: Tensor, cond: Any, substeps: float) -> Tensor:
        """The estimate (B, ...) that the student learns at x (B, ...) and t (B,).

        Multistep consistency distillation (Heek 2024, algorithm 1). The times that the student will draw at cut the
        time into segments. One Euler step of the student, from anywhere in a segment, shall lead to where the teacher's
        ODE arrives at the segment's end. That point is found in two steps: a short one of the teacher, from t to
        `near`, and one of the student itself, from `near` to `end`. It learns the estimate that leads there in one.

        It learns the teacher's own estimate where the short step reaches the end already, or would lead below the last
        level that the teacher is drawn at: there the estimate is the result.
        """
        process = self.teacher.process
        x0_hat = teacher(x, process.sigma(t), cond)
        if substeps == 1:
            return x0_hat
        segment = process.t_range[1] / self.draw_steps
        lowest = float(process.t(torch.tensor(self.teacher.sigmas(self.entry.defaults)[-2])))
        end = segment * ((t / segment - 1e-4).ceil() - 1).clamp(min=0)
        near = torch.maximum(t - segment / substeps, end)
        near = torch.where(near < lowest, end, near)
        a, b = process.sigma(near) / process.sigma(t), torch.where(end > 0, process.sigma(end) / process.sigma(near), 0)
        x_near = x0_hat + expand(a, x) * (x - x0_hat)  # the teacher's step
        x0_near = student(x_near, process.sigma(near), cond)
        # two Euler steps with x0_hat and x0_near end where one does with their mean of this weight
        weight = torch.where(near > end, (1 - b) / (1 - a * b), 0)
        return torch.lerp(x0_hat, x0_near, expand(weight, x))


def student_name(entry: StageEntry) -> str:
    """What the student of a stage is called in the log and in `.train/`."""
    return f"{entry.name}-student"


def is_guided(entry: StageEntry) -> bool:
    """Whether a stage takes more than one evaluation a step."""
    own = given(entry.defaults.distilled, 1.0)
    return given(entry.defaults.guidance, own) != own


class BaseStudent(StudentObjective):
    """The student of a base. size: S. prior: the teacher's if it has one, which redraws a share of the embeddings."""

    table: BaseDistillation

    def __init__(self, *args: Any, size: int, prior: nn.Module | None = None) -> None:
        super().__init__(*args)
        self.size = size
        self.prior = None if prior is None else prior.to(self.run.device).eval().requires_grad_(False)

    def shown(self, step: int, g: torch.Generator) -> Shown:
        """Pictures, some of which are repainted only in part, with their captions and embeddings."""
        r, n, masked = self.table, self.schedule.batch, reads_masks(self.teacher)
        examples = self.run.pictures.small.batch(self.examples_seed, step, n, self.size, masked and r.masked > 0)
        x0 = examples.pixels.to(self.run.device)
        z, text = read_examples(self.encoders, self.teacher.config, x0, examples.captions)
        drop = torch.rand(n, 2, generator=g).to(x0.device)
        guided = guided_cond(text, z)
        cond, uncond = guided.cond, guided.uncond
        if z is not None and text is not None:
            if self.prior is not None:
                z = augment(self.prior, z, text, r.imagined, g)
            z = z + r.z_noise / z.shape[-1] ** 0.5 * torch.randn(z.shape, generator=g).to(z.device)
            kept = drop[:, 1] >= r.drop_z
            cond, uncond = (replace(each, z=z, z_keep=kept) for each in (cond, uncond))
        if text is not None:
            cond = replace(cond, tokens_keep=drop[:, 0] >= r.drop_text)
        else:
            cond = replace(cond, z_keep=drop[:, 0] >= r.drop_text)
        known = InpaintCond(x0, random_masks(n, self.size, r.masked if masked else 0, g, examples.masks).to(x0.device))
        return Shown(x0, cond, uncond, lambda stage: bound_net(stage, known if masked else None))

    def sheet(self) -> Tensor:
        """Three rows: pictures, and what teacher and student draw of their captions and embeddings."""
        examples = self.run.pictures.small.batch(
            streams.examples_seed(self.run.recipe.seed, "sheets"), 0, COLUMNS, self.size
        )
        x0 = examples.pixels.to(self.run.device)
        z, text = read_examples(self.encoders, self.teacher.config, x0, examples.captions)
        cond = guided_cond(text, z)

        def drawn(stage: Stage, sampling: SamplingConfig) -> Tensor:
            return sample_base(stage, self.size, cond, range(COLUMNS), sampling).float()

        rows = drawn(self.teacher, self.entry.defaults), drawn(self.student, self.defaults)
        return torch.stack([x0, *rows])


class PriorStudent(StudentObjective):
    """The student of a prior, on the embeddings z (B, E) of scenes that are embedded once."""

    table: PriorDistillation
    pool: EmbeddingPool

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        assert self.encoders.clip is not None
        source, n = self.run.pictures.small, self.table.pool
        self.pool = EmbeddingPool(self.encoders.clip, source, self.examples_seed, n, self.run.device)

    def shown(self, step: int, g: torch.Generator) -> Shown:
        n = self.schedule.batch
        _, captions, z = self.pool.draw(n, step, g)
        assert self.encoders.text is not None
        text = self.encoders.text.encode(captions, tight=True)[0].to(self.run.device)
        cond, uncond = (prior_cond(text, keep) for keep in (True, False))
        kept = (torch.rand(n, generator=g) >= self.table.drop_text).to(z.device)
        return Shown(z * z.shape[-1] ** 0.5, replace(cond, keep=kept), uncond, lambda stage: stage.net)
