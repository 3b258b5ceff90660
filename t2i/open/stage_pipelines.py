"""The pipelines of a model's stages, over parts that are loaded once."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch

from t2i.open.adapters import add_loras
from t2i.open.loading import build, load_parts, pipeline_class
from t2i.open.schedulers import with_sampler
from t2i.store.load_options import LoadOptions
from t2i.store.open_model import OpenModel


class StagePipelines:
    """parts: stage -> its networks, tokenizers and schedulers by name."""

    def __init__(self, model: OpenModel, parts: Mapping[str, dict[str, Any]]) -> None:
        self.model, self.parts = model, parts
        self._built: dict[tuple[str, str, str | None], Any] = {}

    @classmethod
    def load(cls, model: OpenModel, device: str, options: LoadOptions) -> StagePipelines:
        """Load the weights. Raises InputError (code ``bundle``), UnavailableError (code ``dependency``)."""
        shared: dict[tuple[str, ...], Any] = {}
        parts = {stage: load_parts(folder, options.dtype, shared) for stage, folder in model.folders.items()}
        pipelines = cls(model, parts)
        if options.loras:
            add_loras(pipelines.get(model.main_stage, model.main.cls), options.loras)
        for part in shared.values():
            if isinstance(part, torch.nn.Module):
                part.to(device)
        return pipelines

    def get(self, stage: str, name: str, sampler: str | None = None) -> Any:
        """The pipeline of the class `name` over a stage's parts, built once. sampler: None for the checkpoint's own."""
        key = stage, name, sampler
        if key not in self._built:
            folder, parts = self.model.folders[stage], dict(self.parts[stage])
            if "scheduler" in parts:
                parts["scheduler"] = with_sampler(parts["scheduler"], sampler)
            self._built[key] = build(pipeline_class(name), parts, folder.extras, folder.path)
        return self._built[key]

    def parameters(self, stage: str) -> Mapping[str, inspect.Parameter]:
        """What a call of the stage's own pipeline takes."""
        return inspect.signature(pipeline_class(self.model.folders[stage].cls).__call__).parameters
