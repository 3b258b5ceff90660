"""The numbers of a personal model's training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any

from t2i.diffusion.loss import DenoisingObjective, Levels
from t2i.errors import UsageError
from t2i.schema import Between, build, values_of
from t2i.train.overrides import parse_value
from t2i.train.recipe import Pictures, Schedule, Share, Weight


@dataclass(frozen=True)
class PersonalRecipe:
    """`t2i train lora`. schedule.batch: views and pasted pictures in a step; kept: examples of what the model could
    draw before; crops: of the upsampler, every second step."""

    rank: Annotated[int, Between(1, 256)] = 16
    schedule: Schedule = field(
        default_factory=lambda: Schedule(
            steps=1100,
            batch=8,
            lr=2e-3,
            warmup=20,
            decay=0.4,
            muon=False,
            log_every=10,
            sample_every=100,
            save_every=25,
        )
    )
    views: Pictures = 60  # made once of the user's pictures: moved, enlarged
    pasted: Annotated[int, Between(0, 1_000_000)] = 180  # of the thing, cut out, in places that the model draws
    turn: bool = True  # mirror pictures so that the thing faces one way in all of them
    zoom: Share = 0.1  # most that a view is enlarged or made smaller
    shift: Share = 0.05  # most that it is moved, as a share of its side
    pool: Pictures = 48  # pictures that the model draws before it is changed
    kept: Annotated[int, Between(0, 1024)] = 3
    keep: Weight = 2.0  # weight of the error of what is to be kept
    told: Pictures = 400  # texts that the prior answers before it is changed
    kept_told: Annotated[int, Between(1, 1024)] = 16  # of them in a step
    keep_told: Weight = 4.0  # weight of the prior's error there, in units of `keep`
    crops: Annotated[int, Between(1, 1024)] = 4
    draws: Annotated[int, Between(1, 1024)] = 4  # noise levels that the prior is shown each embedding at
    base: DenoisingObjective = field(
        default_factory=lambda: DenoisingObjective(levels=Levels(mean=0.5, std=1.2, stratified=True))
    )
    prior: DenoisingObjective = field(
        default_factory=lambda: DenoisingObjective(judge="x0", levels=Levels(law="uniform", stratified=True))
    )
    redrawn: Share = 0.7  # share of embeddings that are redrawn by the prior as it then is
    drawn: Share = 0.7  # share of the upsampler's inputs that are what the base makes of noised pictures
    ssim: Weight = 0.15  # weight of 1 - SSIM of luma beside the upsampler's mean absolute error
    drop_z: Share = 0.1
    drop_text: Share = 0.3
    drop_prior: Share = 0.1
    z_noise: Weight = 0.15  # on the embedding, per coordinate in units of 1/sqrt(E)
    noise: Share = 0.5  # the highest level of noise on the upsampler's input


def read_recipe(overrides: Mapping[str, str]) -> PersonalRecipe:
    """The recipe with overrides, as in {"rank": "16", "lr": "1e-3"}. Raises UsageError (code ``config``)."""
    own: dict[str, Any] = {}
    schedule: dict[str, Any] = {}
    scheduled = [f.name for f in fields(Schedule)]
    for key, text in overrides.items():
        name = key.removeprefix("lora.")
        (schedule if name in scheduled else own)[name] = parse_value(text)
    try:
        recipe: PersonalRecipe = build(PersonalRecipe, own)
        return replace(recipe, schedule=replace(recipe.schedule, **values_of(Schedule, schedule)))
    except ValueError as error:
        raise UsageError(f"--set: {error}", code="config") from error
