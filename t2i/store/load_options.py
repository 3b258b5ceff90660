"""How the weights of a model are loaded. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from t2i.store.lora import Lora


@dataclass(frozen=True)
class LoadOptions:
    """dtype: of the weights, as torch calls it. loras: what is added to them."""

    dtype: str = "float32"
    loras: tuple[Lora, ...] = ()

    def facts(self) -> dict[str, Any]:
        """What of it decides a picture, for its key and record. Defaults are left out."""
        facts: dict[str, Any] = {"dtype": self.dtype}
        if self.loras:
            facts["lora"] = [lora.facts() for lora in self.loras]
        return facts

    def given(self) -> list[str]:
        """The options that ask for more than loading the weights as they are."""
        return ["--lora"] if self.loras else []
