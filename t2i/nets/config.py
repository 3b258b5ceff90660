"""What the configs of all networks share: a frozen dataclass of plain values, to and from JSON.

A field typed as a `Literal` of one value is part of the file format and has no other value here: config.json and
checkpoints hold it, and a file with another value is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from t2i.errors import InputError
from t2i.schema import build


@dataclass(frozen=True)
class NetConfig:
    """Base of the networks' configs. Fields are numbers, strings, booleans, None, and tuples of numbers."""

    def to_dict(self) -> dict[str, Any]:
        """A dict of JSON values; tuples become lists."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`; missing keys take their defaults.

        Raises InputError for an unknown key, for a value of the wrong type, and for values that do not fit together.
        """
        try:
            config: Self = build(cls, dict(values))
        except ValueError as error:
            raise InputError(f"{cls.__name__}: {error}", hint="Fetch or train this model again.") from error
        return config
