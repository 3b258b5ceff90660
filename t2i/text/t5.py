"""T5 encoders of any size (Raffel 2019, arXiv 1910.10683), by the library transformers. Imagen reads a T5.

    parts = read_t5(Path("t5-small"))            # a local folder as transformers writes it; nothing is downloaded
    encoder = T5Encoder(build_t5(parts.config), parts.tokenizer, context=64)

transformers is imported only when a T5 is used. The library tokenizers reads tokenizer.json.
Shapes: B prompts, L tokens, D width of a token's state; the pooled vector has the same width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tokenizers import Tokenizer as Backend

from t2i.errors import InputError, UnavailableError
from t2i.files import read_bytes
from t2i.jsonl import strict_json
from t2i.schema import Between, values_of
from t2i.text.cond import TextCond, pad
from t2i.text.encoder import weights_digest

if TYPE_CHECKING:
    from torch import Tensor, nn

Width = Annotated[int, Between(1, 1_048_576)]
Token = Annotated[int, Between(0, 4_194_303)]


@dataclass(frozen=True)
class T5Sizes:
    """The keys of a T5's config.json that its encoder depends on, and their limits. None: not given."""

    d_model: Width | None = None
    d_kv: Width | None = None
    d_ff: Width | None = None
    num_layers: Annotated[int, Between(1, 256)] | None = None
    num_heads: Annotated[int, Between(1, 1024)] | None = None
    vocab_size: Annotated[int, Between(1, 4_194_304)] | None = None
    relative_attention_num_buckets: Annotated[int, Between(2, 65_536)] | None = None
    relative_attention_max_distance: Annotated[int, Between(2, 1_048_576)] | None = None
    layer_norm_epsilon: Annotated[float, Between(0, 1)] | None = None
    feed_forward_proj: str | None = None
    pad_token_id: Token | None = None
    eos_token_id: Token | None = None


KEYS = tuple(f.name for f in fields(T5Sizes))
TIED = "encoder.embed_tokens.weight"
"""The same tensor as `shared.weight`; stored once."""


@dataclass(frozen=True)
class T5Parts:
    """The encoder of a T5: its config, its weights, and the text of its tokenizer.json."""

    config: dict[str, Any]
    weights: dict[str, Tensor]
    tokenizer: str


def t5_config(folder: Path) -> dict[str, Any]:
    """The part of a folder's config.json that its encoder depends on. Raises InputError if it is no T5."""
    where = folder / "config.json"
    try:
        raw = strict_json(read_bytes(where))
    except (OSError, ValueError) as error:
        hint = "Name a local folder with config.json, model.safetensors and tokenizer.json."
        raise InputError(f"{folder} is not the folder of a T5: {where.name} cannot be read.", hint) from error
    if not isinstance(raw, dict) or raw.get("model_type") not in ("t5", "mt5") or "d_model" not in raw:
        raise InputError(f"{where} is not that of a T5.", "Encoders of the kinds t5 and mt5 are read.")
    return {key: raw[key] for key in KEYS if key in raw}


def read_t5(folder: Path) -> T5Parts:
    """Read the encoder of a T5 from a local folder. Raises InputError, or UnavailableError without transformers."""
    config, library = t5_config(folder), _library()
    try:
        net = library.T5EncoderModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        tokens = folder / "tokenizer.json"
        if tokens.is_file():
            text = read_bytes(tokens).decode()
        else:  # only the SentencePiece file is there; transformers converts it
            text = library.AutoTokenizer.from_pretrained(folder, local_files_only=True).backend_tokenizer.to_str()
    except Exception as error:  # the library raises nearly anything
        why = str(error).strip().split("\n")[0][:200]
        raise InputError(
            f"{folder} cannot be read as a T5: {why}", "Weights are read from safetensors only."
        ) from error
    return T5Parts(config, {k: t for k, t in net.state_dict().items() if k != TIED}, text)


def build_t5(config: Mapping[str, Any]) -> nn.Module:
    """The encoder of a config of `t5_config`, with random weights. Raises UnavailableError without transformers,
    ValueError for sizes that no T5 has."""
    library, _ = _library(), values_of(T5Sizes, dict(config))
    return library.T5EncoderModel(library.T5Config(**config, tie_word_embeddings=True))  # type: ignore[no-any-return]


def fill_t5(net: nn.Module, weights: dict[str, Tensor]) -> None:
    """Load stored weights into a network of `build_t5`. Raises RuntimeError if they do not fit."""
    shared = {TIED: weights["shared.weight"]} if TIED in net.state_dict() and "shared.weight" in weights else {}
    net.load_state_dict({**weights, **shared}, assign=True)


class T5Encoder:
    """The encoder of a T5 as a `TextEncoder`; pooled is the mean state.

    where: names the tokenizer in errors. Raises InputError for a tokenizer that is damaged or too large for the T5.
    """

    def __init__(self, net: Any, tokenizer: str, context: int, where: str = "the tokenizer of the T5") -> None:
        try:
            self.backend = Backend.from_str(tokenizer)
        except Exception as error:  # the library raises bare Exception
            raise InputError(f"{where} is not a tokenizer: {error}", "Fetch or write the bundle again.") from error
        self.backend.no_truncation()
        self.backend.no_padding()
        assert context >= 2, "the context must hold a word and the end"
        self.net, self.context, self._tokenizer = net.eval().requires_grad_(False), context, tokenizer
        config = net.config
        self.width = self.pooled_width = int(config.d_model)
        self.pad, self.end = int(config.pad_token_id or 0), int(config.eos_token_id)
        entries = max(self.backend.get_vocab().values(), default=-1) + 1
        if entries > config.vocab_size:
            what = f"{where} has {entries} entries and the T5 reads {config.vocab_size}."
            raise InputError(what, "Take both from one folder.", "mismatch")

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of weights and tokenizer."""
        weights = {k: t for k, t in self.net.state_dict().items() if k != TIED}
        return weights_digest(weights, self._tokenizer)

    def encode(self, prompts: Sequence[str], tight: bool = False) -> tuple[TextCond, list[str | None]]:
        """As in the protocol."""
        import torch

        room, rows, cut = self.context - 1, [], list[str | None]()
        for text in prompts:  # encode_batch would start threads, see Tokenizer.encode_ids
            pieces = self.backend.encode(text, add_special_tokens=False)
            cut.append(text[pieces.offsets[room][0] :] if len(pieces.ids) > room else None)
            rows.append([*pieces.ids[:room], self.end])
        length = max(map(len, rows)) if tight else self.context
        ids, mask = pad([torch.tensor(row) for row in rows], length, self.pad)
        device = next(self.net.parameters()).device
        with torch.no_grad():
            out = self.net(input_ids=ids.to(device), attention_mask=mask.long().to(device))
        tokens, mask = out.last_hidden_state.float(), mask.to(device)
        weight = mask[..., None].to(tokens.dtype)
        return TextCond(tokens, mask, (tokens * weight).sum(1) / weight.sum(1)), cut


def _library() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise UnavailableError("transformers is not installed.", "pip install 't2i[t5]'", "dependency") from error
    return transformers
