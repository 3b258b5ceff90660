"""The samplers of `t2i.sampling.SAMPLERS` among diffusers' schedulers."""

from __future__ import annotations

from typing import Any

from t2i.open.loading import pipeline_class

SCHEDULERS = {
    "euler": "EulerDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "dpmpp_2m": "DPMSolverMultistepScheduler",
    "unipc": "UniPCMultistepScheduler",
    "ancestral": "EulerAncestralDiscreteScheduler",
    "consistency": "LCMScheduler",
}
"""Our name -> the scheduler of a diffusion process."""
FLOW_SCHEDULERS = {"euler": "FlowMatchEulerDiscreteScheduler", "heun": "FlowMatchHeunDiscreteScheduler"}
"""Our name -> the scheduler of a flow."""


def with_sampler(scheduler: Any, name: str | None) -> Any:
    """A scheduler of the same process, made from the config of the checkpoint's own; that one where name is None."""
    if name is None:
        return scheduler
    of_flow = type(scheduler).__name__.startswith("FlowMatch")
    return pipeline_class((FLOW_SCHEDULERS if of_flow else SCHEDULERS)[name]).from_config(scheduler.config)  # type: ignore[attr-defined]
