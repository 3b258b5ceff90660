"""Which part of a prompt the text encoders of a pipeline do not read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

UNKNOWN = 1 << 20  # tokenizers without a limit of their own say a huge number


def cut_of(parts: Mapping[str, Any], parameters: Mapping[str, Any], prompts: Sequence[str]) -> list[str | None]:
    """For each prompt the part that did not fit into the encoder that reads most, or None.

    parts: those of the pipeline; parameters: of its call, where `max_sequence_length` is the limit of all encoders but
    CLIP's.
    """
    longest = parameters["max_sequence_length"].default if "max_sequence_length" in parameters else None
    limits = []
    for name, part in parts.items():
        if name.startswith("tokenizer") and part is not None:
            of_clip = "CLIP" in type(part).__name__
            limit = part.model_max_length if of_clip or longest is None else longest
            limits.append((limit, name))
    limit, name = max(limits, default=(UNKNOWN, ""))
    if limit >= UNKNOWN:
        return [None] * len(prompts)
    tokenizer, cuts = parts[name], list[str | None]()
    for prompt in prompts:
        ids = tokenizer(prompt, truncation=False, verbose=False).input_ids
        left_out = ids[limit - 1 : -1] if len(ids) > limit else []
        cuts.append(tokenizer.decode(left_out).strip() or None if left_out else None)
    return cuts
