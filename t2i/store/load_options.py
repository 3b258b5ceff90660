"""How the weights of a model are loaded: number type, LoRAs, and what saves memory or time. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from t2i.errors import UsageError, check_choice
from t2i.store.lora import Lora

DTYPES = ("float32", "bfloat16", "float16")
MEMORY = ("auto", "low", "off")
QUANTIZE = ("int8", "int4")


@dataclass(frozen=True)
class LoadOptions:
    """dtype: of the weights, as torch calls it. loras: what is added to them.

    quantize: "int8" or "int4" for linear layers of that width, "" for none. memory: "low" saves memory for time, "auto"
    does so where the weights do not fit, "off" never. compile: whether networks are compiled before they run.
    """

    dtype: str = "float32"
    loras: tuple[Lora, ...] = ()
    quantize: str = ""
    memory: str = "auto"
    compile: bool = False

    def check(self) -> LoadOptions:
        """Return self. Raises UsageError for a choice that does not exist, and for one LoRA twice."""
        check_choice("dtype", self.dtype, DTYPES)
        check_choice("memory", self.memory, MEMORY)
        if self.quantize:
            check_choice("quantize", self.quantize, QUANTIZE)
        if len({lora.sha256 for lora in self.loras}) < len(self.loras):
            raise UsageError("--lora names one LoRA twice.", "Name each once, with the scale that it should have.")
        return self

    def facts(self) -> dict[str, Any]:
        """What of it decides a picture, for its key and record. Defaults are left out."""
        facts: dict[str, Any] = {"dtype": self.dtype}
        if self.loras:
            facts["lora"] = [lora.facts() for lora in self.loras]
        if self.quantize:
            facts["quantize"] = self.quantize
        if self.memory == "low":  # a large picture is decoded in tiles, which shows in its last digits
            facts["memory"] = self.memory
        if self.compile:
            facts["compile"] = True
        return facts

    def given(self) -> list[str]:
        """The options that ask for more than loading the weights as they are."""
        asked = {"--lora": self.loras, "--quantize": self.quantize, "--memory low": self.memory == "low"}
        return [option for option, wanted in (asked | {"--compile": self.compile}).items() if wanted]
