"""The pipelines of a model's stages, over parts that are loaded once."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch

from t2i.open.adapters import add_loras
from t2i.open.loading import build, load_parts, pipeline_class
from t2i.open.machine import check_machine, is_offloaded, offload_groups, prepare
from t2i.open.schedulers import with_sampler
from t2i.store.load_options import LoadOptions
from t2i.store.open_model import OpenModel


class StagePipelines:
    """parts: stage -> its networks, tokenizers and schedulers by name. offload_from: the device on which a network is
    only while it runs; None where all of them stay."""

    def __init__(self, model: OpenModel, parts: Mapping[str, dict[str, Any]]) -> None:
        self.model, self.parts = model, parts
        self.offload_from: str | None = None
        self._built: dict[tuple[str, str, str | None], Any] = {}
        self._offloaded: Any = None  # the pipeline that moves the networks

    @classmethod
    def load(cls, model: OpenModel, device: str, options: LoadOptions) -> StagePipelines:
        """Load the weights. Raises InputError (code `bundle`), UnavailableError (code `dependency`), UsageError for
        what the device cannot do."""
        check_machine(model, options, device)
        shared: dict[tuple[str, ...], Any] = {}
        parts = {stage: load_parts(folder, options.dtype, shared) for stage, folder in model.folders.items()}
        pipelines = cls(model, parts)
        if options.loras:
            add_loras(pipelines.get(model.main_stage, model.main.cls), options.loras)
        named = [pair for stage in parts.values() for pair in stage.items()]
        prepare(named, options)
        if options.memory == "low" and device.startswith("cuda"):
            offload_groups(named, device)
            return pipelines
        if is_offloaded(shared.values(), options, device):
            pipelines.offload_from = device
            return pipelines
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
        pipeline = self._built[key]
        if self.offload_from is not None and self._offloaded is not pipeline:
            pipeline.enable_model_cpu_offload(device=self.offload_from)  # in place of another over the same networks
            self._offloaded = pipeline
        return pipeline

    def parameters(self, stage: str) -> Mapping[str, inspect.Parameter]:
        """What a call of the stage's own pipeline takes."""
        return inspect.signature(pipeline_class(self.model.folders[stage].cls).__call__).parameters
