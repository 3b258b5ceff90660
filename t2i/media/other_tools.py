"""Metadata of other tools: the `parameters` text of AUTOMATIC1111 and the graph of ComfyUI.

Both parsers return a table with the keys `FIELDS`; size is [width, height], and what is not there is None. Nothing here
raises, since a file may hold anything.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Mapping
from typing import Any

FIELDS = ("tool", "prompt", "negative", "seed", "steps", "sampler", "guidance", "size", "model")
_PAIR = re.compile(r'([\w ()/.-]{1,40}?):\s*("(?:\\.|[^"\\])*"|[^,]*)(?:,|$)')
_LAST_LINE = re.compile(r"^Steps:\s*\d+\b", re.MULTILINE)
MAX_SETTINGS = 20_000  # characters of the last line that are read
NEGATIVE = "Negative prompt:"


def read_parameters(text: str) -> dict[str, Any] | None:
    """Parse `parameters`: prompt, `Negative prompt: …`, and a last line `Steps: …, Sampler: …`; None for other
    texts."""
    found = list(_LAST_LINE.finditer(text))
    if not found:
        return None
    head, tail = text[: found[-1].start()], text[found[-1].start() :]
    prompt, _, negative = head.partition(NEGATIVE)
    pairs = _PAIR.findall(tail[:MAX_SETTINGS].replace("\n", ", "))
    facts = {name.strip(): _unquote(value.strip()) for name, value in pairs}
    width, _, height = facts.get("Size", "").partition("x")
    return _table(
        tool=facts.get("Version", "AUTOMATIC1111") if "t2i" in facts.get("Version", "") else "AUTOMATIC1111",
        prompt=prompt.strip(),
        negative=negative.strip() or None,
        seed=_int(facts.get("Seed")),
        steps=_int(facts.get("Steps")),
        sampler=facts.get("Sampler"),
        guidance=_float(facts.get("CFG scale")),
        size=[_int(width), _int(height)] if _int(width) and _int(height) else None,
        model=facts.get("Model"),
    )


def read_comfy(text: str) -> dict[str, Any] | None:
    """Parse a graph in ComfyUI's API format, {id: {"class_type", "inputs"}}; None for anything else.

    Seed, steps and guidance are those of the first sampler node. Its inputs `positive` and `negative` lead to the
    texts.
    """
    try:
        graph = json.loads(text, parse_constant=lambda word: None)  # ComfyUI writes NaN for "always run again"
    except (ValueError, RecursionError):
        return None
    if not isinstance(graph, dict):
        return None
    nodes = {str(k): v for k, v in graph.items() if isinstance(v, dict) and isinstance(v.get("inputs"), dict)}
    samplers = [n["inputs"] for n in nodes.values() if "positive" in n["inputs"] and "negative" in n["inputs"]]
    samplers = [n for n in samplers if "seed" in n or "noise_seed" in n] or samplers
    if not nodes or not all("class_type" in node for node in nodes.values()):
        return None
    inputs = samplers[0] if samplers else {}
    latent = _node(nodes, inputs.get("latent_image"))
    width, height = (_int(_value(nodes, latent.get(side))) for side in ("width", "height"))
    loaders = [n["inputs"] for n in nodes.values() if {"ckpt_name", "unet_name"} & n["inputs"].keys()]
    model = next((n.get("ckpt_name") or n.get("unet_name") for n in loaders), None)
    return _table(
        tool="ComfyUI",
        prompt=_text(nodes, inputs.get("positive")),
        negative=_text(nodes, inputs.get("negative")) or None,
        seed=_int(_value(nodes, inputs.get("seed", inputs.get("noise_seed")))),
        steps=_int(_value(nodes, inputs.get("steps"))),
        sampler=_str(_value(nodes, inputs.get("sampler_name"))),
        guidance=_float(_value(nodes, inputs.get("cfg"))),
        size=[width, height] if width and height else None,
        model=_str(model),
    )


def _table(**facts: Any) -> dict[str, Any]:
    return {name: _whole(facts.get(name)) for name in FIELDS}


def _whole(value: Any) -> Any:
    """A text without halves of characters, which JSON can hold and no file can."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _node(nodes: Mapping[str, Any], link: Any) -> dict[str, Any]:
    """The inputs of the node that a link [id, output] points to."""
    if isinstance(link, list) and link and str(link[0]) in nodes:
        inputs: dict[str, Any] = nodes[str(link[0])]["inputs"]
        return inputs
    return {}


def _value(nodes: Mapping[str, Any], value: Any) -> Any:
    """A number or word, following links to nodes that hold it (a primitive, a seed generator)."""
    for _ in range(8):
        if not isinstance(value, list):
            return value
        inputs = _node(nodes, value)
        value = next((inputs[k] for k in ("value", "seed", "int", "float", "string", "text") if k in inputs), None)
    return None


def _text(nodes: Mapping[str, Any], link: Any) -> str | None:
    """The text that a conditioning comes from, through any nodes in between."""
    todo, seen, texts = deque([link]), set(), []
    while todo:
        link = todo.popleft()
        if not isinstance(link, list) or not link or str(link[0]) in seen:
            continue
        seen.add(str(link[0]))
        inputs = _node(nodes, link)
        own = [_value(nodes, inputs[k]) for k in ("text", "text_g", "text_l") if k in inputs]
        own = [text for text in own if isinstance(text, str) and text.strip()]
        if own:
            texts += [text.strip() for text in dict.fromkeys(own)]
        else:
            todo += [value for key, value in inputs.items() if "condition" in key or key in ("positive", "negative")]
    return "\n".join(dict.fromkeys(texts)) or None


def _unquote(value: str) -> str:
    if value.startswith('"'):
        try:
            return str(json.loads(value))
        except ValueError:
            pass
    return value


def _int(value: Any) -> int | None:
    try:
        return int(str(value)) if len(str(value)) < 40 else None
    except (TypeError, ValueError):
        return None


def _float(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if abs(number) < 1e9 else None  # no NaN, no infinity: JSON has none


def _str(value: Any) -> str | None:
    return value if isinstance(value, str) else None
