"""Personal models: what `t2i train lora` writes. One safetensors file changes some weights of a bundle by low-rank
matrices (LoRA: Hu 2021, arXiv 2106.09685) and gives its text encoder a new word (textual inversion: Gal 2022, arXiv
2208.01618).

    word                         (W,) the row of the new word in the table of tokens
    base.mid.0.attn.qkv.weight.up, .down    (m, r), (r, n): up @ down is added to that weight of the stage `base`

The header's metadata holds, under the key "t2i", the table `PersonalFacts` as JSON. A file is for the very weights that
it was trained on, which it names by their sha256.
"""

from __future__ import annotations

import json
import re
import shlex
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from t2i.errors import InputError, T2IError, UsageError
from t2i.files import explain_os_error, read_bytes, write_bytes
from t2i.jsonl import strict_json
from t2i.schema import Between, Length, build
from t2i.store.tensors import FLOATING, Layout, decode, encode
from t2i.store.weights_files import unusable

if TYPE_CHECKING:
    from torch import Tensor

KEY = "t2i"
WORD = "word"
UP, DOWN = ".up", ".down"
LARGEST = 256 << 20  # bytes of a file
HINT = "Train it again with t2i train lora."
TOKEN = re.compile(r"<[\w-]{1,40}>")
Hash = Annotated[str, Length(64, 64)]


@dataclass(frozen=True)
class PersonalFacts:
    """What a personal model says of itself.

    token: the word, as prompts write it. model: the name of the bundle that it is for. weights: stage -> sha256 of the
    weights that it was trained on, of every stage that it changes. rank: the highest rank of a change. training: how it
    was made, for people.
    """

    token: str
    model: str
    weights: dict[str, Hash]
    rank: Annotated[int, Between(1, 4096)]
    training: dict[str, Any]
    kind: Literal["personal"] = "personal"
    schema: Literal[1] = 1


def as_read(text: str) -> str:
    """A text as tokenizers of ours read it: NFKC, in lower case."""
    return unicodedata.normalize("NFKC", text).lower()


def check_token(text: str) -> str:
    """The token as prompts are searched for it. Raises UsageError for what is no word in angle brackets, which would
    change the meaning of other words."""
    token = as_read(text.strip())
    if not TOKEN.fullmatch(token):
        what = f"--token {text[:60]!r} is not a word in angle brackets."
        raise UsageError(what, 'Write --token "<mine>": letters, digits, - and _.')
    return token


def read_facts(metadata: Any, layouts: Mapping[str, Layout], where: Path) -> PersonalFacts | None:
    """The facts in the header of a safetensors file; None for a file that is no personal model.

    Raises InputError (code `bundle`) unless its tensors come in pairs that can be multiplied.
    """
    text = metadata.get(KEY) if isinstance(metadata, dict) else None
    if text is None:
        return None
    try:
        facts: PersonalFacts = build(PersonalFacts, strict_json(text.encode()), KEY)
        if facts.token != check_token(facts.token):
            raise ValueError(f"its word is {facts.token[:60]!r}")
    except (T2IError, ValueError, TypeError, AttributeError, RecursionError) as error:
        why = error.message if isinstance(error, T2IError) else error
        raise unusable(where, f"what it says of itself cannot be read ({why})", HINT) from error
    _check_layouts(facts, layouts, where)
    return facts


def _check_layouts(facts: PersonalFacts, layouts: Mapping[str, Layout], where: Path) -> None:
    shapes = {name: shape for name, (_, shape) in layouts.items()}
    if len(shapes.pop(WORD, ())) != 1:
        raise unusable(where, "it holds no word", HINT)
    for name, shape in shapes.items():
        other = name.removesuffix(UP) + DOWN if name.endswith(UP) else name.removesuffix(DOWN) + UP
        pair = shape, shapes.get(other, ())
        up, down = pair if name.endswith(UP) else pair[::-1]
        fits = len(up) == len(down) == 2 and up[1] == down[0] and 1 <= up[1] <= facts.rank
        if not name.endswith((UP, DOWN)) or not fits or name.partition(".")[0] not in facts.weights:
            raise unusable(where, f"{name[:80]!r} is no part of a change of low rank", HINT)
    if odd := next((name for name, (dtype, _) in layouts.items() if dtype not in FLOATING), None):
        raise unusable(where, f"{odd[:80]!r} is not of a type that weights have", HINT)


@dataclass(frozen=True)
class Personal:
    """A personal model with its values. word (W,); changes: stage -> weight -> (up (m, r), down (r, n))."""

    facts: PersonalFacts
    word: Tensor
    changes: dict[str, dict[str, tuple[Tensor, Tensor]]]


def write_personal(path: Path, personal: Personal) -> None:
    """Write the file, values as float16. Raises InputError (code `bundle` for values that are not finite)."""
    state = {WORD: personal.word}
    for stage, weights in personal.changes.items():
        for name, (up, down) in weights.items():
            state |= {f"{stage}.{name}{UP}": up, f"{stage}.{name}{DOWN}": down}
    said = json.dumps(asdict(personal.facts), ensure_ascii=False, sort_keys=True)
    write_bytes(path, encode(state, "the personal model", {KEY: said}))


def load_personal(path: Path, facts: PersonalFacts) -> Personal:
    """The values of a file whose header was checked. Raises InputError (code `bundle`)."""
    try:
        if path.stat().st_size > LARGEST:
            raise unusable(path, f"it is larger than {LARGEST >> 20} MB", HINT)
        state = decode(read_bytes(path), str(path))
    except OSError as error:
        raise unusable(path, explain_os_error(error), HINT) from error
    changes: dict[str, dict[str, tuple[Tensor, Tensor]]] = {}
    try:
        word = state.pop(WORD)
        for name in (n.removesuffix(UP) for n in state if n.endswith(UP)):
            stage, _, weight = name.partition(".")
            changes.setdefault(stage, {})[weight] = state[name + UP], state[name + DOWN]
    except KeyError as error:
        raise unusable(path, "it changed while it was read", HINT) from error
    return Personal(facts, word, changes)


def check_fits(facts: PersonalFacts, path: Path, model: str, weights: Mapping[str, str]) -> None:
    """Raise InputError (code `mismatch`) unless a personal model is for these weights, stage -> sha256, of the
    bundle `model`."""
    other = sorted(stage for stage, digest in facts.weights.items() if weights.get(stage) != digest)
    if other:
        whose = f"another {' and '.join(other)}" if set(other) <= weights.keys() else f"the model {facts.model[:80]!r}"
        what = f"{path} was trained for {whose}, not for that of {model}." if whose.startswith("another") else ""
        what = what or f"{path} was trained for {whose}, not for {model}."
        raise InputError(what, f"Train it again: t2i train lora --model {shlex.quote(model)}", "mismatch")
