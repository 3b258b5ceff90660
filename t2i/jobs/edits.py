"""What an edit is to a run: the options of `t2i sample`, `t2i vary` and `t2i inpaint` by which a picture is more than
its prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from t2i.engine import OnStep
from t2i.errors import UsageError
from t2i.jobs.job import Job
from t2i.jobs.settings import Settings
from t2i.store.bundle import Bundle
from t2i.store.completeness import takes_images

if TYPE_CHECKING:
    from t2i.engine import Engine, Samples
    from t2i.sampling import SampleRequest
    from t2i.store.models import StoredModel


class Edit(Protocol):
    """`SampleEdit`, `VaryEdit` and `InpaintEdit`. without: the kinds of stage that do not run."""

    @property
    def without(self) -> tuple[str, ...]: ...

    def apply(self, settings: Settings) -> Settings:
        """The same settings with what the edit asks for, for keys and records."""

    def draw(self, engine: Engine, jobs: list[Job], request: SampleRequest, on_step: OnStep) -> Samples:
        """The pictures of jobs with equal settings."""


def check_strength(strength: float | None) -> None:
    """Raise UsageError unless it is in [0, 1]."""
    if strength is not None and not 0 <= strength <= 1:
        raise UsageError(f"--strength {strength:g} makes no sense.", "Write a number from 0 to 1.")


def check_sees(model: StoredModel, option: str, hint: str = "") -> None:
    """Raise UsageError for a model without an image encoder. hint: in place of the usual one."""
    model.check_can(option)
    if isinstance(model, Bundle) and not model.manifest.of_kind("clip"):
        raise takes_images(model.manifest.name, option, hint)
