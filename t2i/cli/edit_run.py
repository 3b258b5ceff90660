"""What `inpaint`, `upscale` and `sample --like` share: what their pictures say about themselves, and their jobs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from t2i.cli.draw import Request
from t2i.cli.jobs import Job, Names
from t2i.media.record import carried, edited_source_type

if TYPE_CHECKING:
    from t2i.cli.dials import Dials
    from t2i.cli.edit_inputs import Source
    from t2i.media.c2pa import Seal
    from t2i.media.record import Record
    from t2i.store.bundle import Bundle


@dataclass(frozen=True)
class EditRequest(Request):
    """A request whose pictures come from another. size: width and height of what is made; source_type: how much of it
    a machine made, in IPTC's words; source: what the picture given said of itself."""

    command: str = "inpaint"
    size: tuple[int, int] = (0, 0)
    source_type: str = ""
    source: dict[str, Any] | None = None

    @classmethod
    def of(
        cls,
        bundle: Bundle,
        names: Names,
        command: str,
        source: Source,
        size: tuple[int, int],
        overwrite: bool,
        private: bool,
        seal: Seal | None,
    ) -> EditRequest:
        """The request of a command that edits `source`."""
        return cls(
            bundle,
            names,
            overwrite=overwrite,
            private=private,
            seal=source.seal(seal),
            icc=source.picture.icc,
            command=command,
            size=size,
            source_type=edited_source_type(source.marks, command),
            source=carried(source.marks),
        )

    def record(self, job: Job, cut: str | None = None) -> Record:
        """What the picture of ``job`` will say about itself."""
        record = super().record(job, cut)
        return replace(record, command=self.command, size=self.size, source_type=self.source_type, source=self.source)


def edit_jobs(prompt: str, title: str, seeds: Iterable[int], dials: Dials) -> list[Job]:
    """A job a seed; ``title`` is what the files are called after."""
    return [Job(prompt, seed, i, i, dials, title) for i, seed in enumerate(seeds)]
