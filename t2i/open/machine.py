"""What saves memory or time on this machine: offloading, tiles, quantised weights, compiled networks.

What a device cannot do is refused before the weights are loaded.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from typing import Any

import torch

from t2i.errors import UnavailableError, UsageError
from t2i.open.loading import library, without_warnings
from t2i.store.load_options import LoadOptions
from t2i.store.open_model import OpenModel

DECODERS = ("vae", "movq")
PAINTERS = ("unet", "transformer", "prior", "decoder", "super_res_first", "super_res_last")
GROUP = 32  # weights that share a scale, of int4
SPARE = 1.2  # memory that a run needs, in sizes of its weights


def check_machine(model: OpenModel, options: LoadOptions, device: str) -> None:
    """Raise UsageError for what this device cannot do, UnavailableError (code `dependency`) for a missing tool."""
    on_gpu = device.startswith("cuda")
    parts = {name for folder in model.folders.values() for name in folder.components}
    if options.memory == "low" and not on_gpu and "vae" not in parts:
        what = f"--memory low: on this device it decodes pictures in tiles, and {model.main.takes.family} decodes none."
        raise UsageError(what, "Try --quantize int8, or a smaller --batch.")
    if options.quantize:
        if options.quantize == "int4" and not (on_gpu and options.dtype == "bfloat16"):
            what = "--quantize int4 runs on an NVIDIA GPU with --dtype bfloat16 only."
            raise UsageError(what, "--quantize int8 runs everywhere.")
        library("torchao", "t2i[quantize]")
    if options.compile and not on_gpu and not any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++"))):
        raise UnavailableError("--compile needs a C++ compiler on this device.", "Install g++.", "dependency")


def prepare(parts: Iterable[tuple[str, Any]], options: LoadOptions) -> None:
    """Quantise, tile and compile the loaded parts (name, part) of a model, each once."""
    nets: dict[int, tuple[str, Any]] = {id(p): (name, p) for name, p in parts if isinstance(p, torch.nn.Module)}
    for name, part in nets.values():
        if options.quantize and name not in DECODERS:
            _quantize(part, options.quantize)
        if options.memory == "low" and hasattr(part, "enable_tiling"):
            part.enable_tiling()
            part.enable_slicing()
        if options.compile and name in PAINTERS:
            if getattr(part, "_repeated_blocks", None):  # they are compiled once for all
                part.compile_repeated_blocks()
            else:
                part.compile()


def is_offloaded(parts: Iterable[Any], options: LoadOptions, device: str) -> bool:
    """Whether networks are to be on a GPU only while they run, because they do not fit there together."""
    if not device.startswith("cuda") or options.memory != "auto":
        return False
    nets = {id(part): part for part in parts if isinstance(part, torch.nn.Module)}
    size = sum(weight.nbytes for net in nets.values() for weight in net.parameters())
    return SPARE * size > torch.cuda.mem_get_info(device)[0]


def offload_groups(parts: Iterable[tuple[str, Any]], device: str) -> None:
    """Put the loaded parts (name, part) of a model on a device so that of each network only the layers that run are
    there, and the next ones arrive meanwhile. What decodes pictures is small, and is there as a whole: its tiles would
    come before the order of its layers is known."""
    from diffusers.hooks import apply_group_offloading

    nets = {id(part): (name, part) for name, part in parts if isinstance(part, torch.nn.Module)}
    for name, net in nets.values():
        if name in DECODERS:
            net.to(device)
            continue
        apply_group_offloading(
            net, torch.device(device), torch.device("cpu"), "leaf_level", use_stream=device.startswith("cuda")
        )


def _quantize(net: torch.nn.Module, kind: str) -> None:
    """Linear layers, without those of LoRAs, in place: weights of 8 or 4 bits with a scale for each row or group."""
    with without_warnings():
        from torchao.quantization import Int4WeightOnlyConfig, Int8WeightOnlyConfig, quantize_

        if kind == "int8":
            quantize_(net, Int8WeightOnlyConfig(version=2), _is_plain)
        else:
            config = Int4WeightOnlyConfig(group_size=GROUP, int4_packing_format="tile_packed_to_4d")
            quantize_(net, config, lambda module, name: _is_plain(module, name) and module.in_features % GROUP == 0)


def _is_plain(module: torch.nn.Module, name: str) -> bool:
    return isinstance(module, torch.nn.Linear) and "lora_" not in name
