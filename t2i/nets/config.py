"""What the configs of all networks share: a frozen dataclass of plain values, to and from JSON.

A field typed as a `Literal` of one value is part of the file format and has no other value here: config.json and
checkpoints hold it, and a file with another value is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Self

from t2i.errors import InputError
from t2i.schema import Between, Length, build

Width = Annotated[int, Between(1, 65_536)]
"""Channels of a map, numbers of a vector."""
WidthOrNone = Annotated[int, Between(0, 65_536)]
"""The same, or 0 for something that the network does not have."""
Side = Annotated[int, Between(1, 8192)]
"""Pixels or cells along a side, or a factor of it."""
Heads = Annotated[int, Between(1, 1024)]
Depth = Annotated[int, Between(0, 256)]
"""Blocks or layers in a row."""
Depths = Annotated[tuple[Depth, ...], Length(1, 8)]
Widths = Annotated[tuple[Width, ...], Length(1, 8)]
"""Depths, Widths: one entry for each level of a U-Net."""
Tokens = Annotated[int, Between(2, 65_536)]
"""Tokens of a text, its start and end among them."""
Entries = Annotated[int, Between(1, 4_194_304)]
"""Entries of a vocabulary."""
Scale = Annotated[float, Between(1e-6, 1e6)]
"""Factor of a time or of a skip connection."""


@dataclass(frozen=True)
class NetConfig:
    """Base of the networks' configs. Fields are numbers, strings, booleans, None, and tuples of numbers.

    Every number has limits, which are checked when a config is read: what a file says must not make a program that
    builds the network hang, or divide by 0. They are far from all that is used.
    """

    @staticmethod
    def require(holds: bool, what: str, hint: str) -> None:
        """Raise InputError unless a rule between several fields holds."""
        if not holds:
            raise InputError(what, hint)

    def to_dict(self) -> dict[str, Any]:
        """A dict of JSON values; tuples become lists."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`, from the table `net` of a config.json; missing keys take their defaults.

        Raises InputError for an unknown key, for a value of the wrong type, and for values that do not fit together.
        """
        try:
            config: Self = build(cls, dict(values), "net")
        except ValueError as error:
            raise InputError(str(error), hint="Fetch or train this model again.") from error
        return config
