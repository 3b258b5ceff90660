"""LoRAs, added to the networks of a pipeline by diffusers and peft."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from t2i.open.loading import explained, library
from t2i.store.lora import HINT, Lora
from t2i.store.weights_files import unusable


def add_loras(pipeline: Any, loras: Sequence[Lora]) -> None:
    """Add LoRAs to the networks of a pipeline, and to all other pipelines over the same networks.

    Raises InputError (code `bundle`) for one that does not fit, UnavailableError (code `dependency`) without peft.
    """
    library("peft")
    names = [f"lora{i}" for i in range(len(loras))]
    for name, lora in zip(names, loras, strict=True):
        with explained(lora.path, HINT):
            pipeline.load_lora_weights(
                str(lora.path.parent), weight_name=lora.path.name, adapter_name=name, use_safetensors=True,
                local_files_only=True,
            )  # fmt: skip
        # the library leaves out what it finds no place for, and says so in its log only
        if (placed := _layers_with(pipeline, name)) < lora.layers:
            what = f"{placed} of its {lora.layers} layers fit this model" if placed else "it was made for another model"
            raise unusable(lora.path, what, HINT)
    pipeline.set_adapters(names, [lora.scale for lora in loras])


def _layers_with(pipeline: Any, adapter: str) -> int:
    nets = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    return sum(adapter in getattr(module, "lora_A", ()) for net in nets for module in net.modules())
