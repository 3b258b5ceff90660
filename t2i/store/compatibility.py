"""Whether the stages of a bundle fit together. Every stage's config.json has a table `widths`:

    clip       embed_dim, text_dim, context, vocab     widths of embedding and token, number of tokens, vocabulary
    text       text_dim, context, vocab                the same for a text encoder that has seen no picture
    prior      embed_dim, text_dim                     width of its output and of the tokens it reads
    base       cond_dim, text_dim, size [context]      widths of image embedding and token (0: not read), side in
                                                       pixels, number of tokens in training
    gan        embed_dim, text_dim, size               widths of the text's vector and token, side in pixels
    dalle      codes, grid, context, vocab             image tokens: vocabulary and number a side; text tokens: the
                                                       most that it reads, no more than clip, and vocabulary
    vae        size, grid, codes                       side in pixels of its pictures and in tokens, vocabulary of the
                                                       tokens (0: they are continuous)
    upsampler  low, size [text_dim, cond_dim]          sides in pixels of input and output, widths of the text vector
                                                       and of the image embedding

Keys in [] are optional. A bundle has one text encoder, of kind clip or text, and one stage that makes the smallest
picture: a base, a gan, or a vae, whose tokens a transformer (dalle) draws. It may be incomplete, since training adds
one stage after the other; the stages that are there have to fit.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from t2i.errors import InputError
from t2i.schema import shown

if TYPE_CHECKING:
    from t2i.store.manifest import Manifest

WIDTHS: dict[str, tuple[str, ...]] = {
    "clip": ("embed_dim", "text_dim", "context", "vocab"),
    "text": ("text_dim", "context", "vocab"),
    "prior": ("embed_dim", "text_dim"),
    "base": ("cond_dim", "text_dim", "size"),
    "gan": ("embed_dim", "text_dim", "size"),
    "dalle": ("codes", "grid", "context", "vocab"),
    "vae": ("size", "grid", "codes"),
    "upsampler": ("low", "size"),
}
OPTIONAL: dict[str, tuple[str, ...]] = {
    "base": ("context",),
    "upsampler": ("text_dim", "cond_dim"),
}
ENCODERS = ("clip", "text")
"""The kinds of stage that encode the prompt."""
DIRECT = ("gan", "dalle")
"""The kinds of stage that draw the smallest picture without diffusion."""
SMALLEST = ("base", "gan", "vae")
"""The kinds of stage that make the smallest picture."""
PAIRS = (
    ("clip", "embed_dim", "prior", "embed_dim", "the width of the image embedding"),
    ("clip", "text_dim", "prior", "text_dim", "the width of a text token"),
    ("prior", "embed_dim", "base", "cond_dim", "the width of the image embedding"),
    ("clip", "embed_dim", "base", "cond_dim", "the width of the image embedding"),
    ("clip", "text_dim", "base", "text_dim", "the width of a text token"),
    ("clip", "context", "base", "context", "the number of text tokens"),
    ("clip", "embed_dim", "gan", "embed_dim", "the width of a text's vector"),
    ("clip", "text_dim", "gan", "text_dim", "the width of a text token"),
    ("clip", "vocab", "dalle", "vocab", "the vocabulary of the text"),
    ("vae", "codes", "dalle", "codes", "the vocabulary of the image tokens"),
    ("vae", "grid", "dalle", "grid", "the number of image tokens a side"),
    ("clip", "embed_dim", "upsampler", "text_dim", "the width of a text's vector"),
    ("clip", "embed_dim", "upsampler", "cond_dim", "the width of the image embedding"),
    ("text", "text_dim", "prior", "text_dim", "the width of a text token"),
    ("text", "text_dim", "base", "text_dim", "the width of a text token"),
    ("text", "context", "base", "context", "the number of text tokens"),
    ("text", "text_dim", "gan", "embed_dim", "the width of a text's vector"),
    ("text", "text_dim", "gan", "text_dim", "the width of a text token"),
    ("text", "text_dim", "upsampler", "text_dim", "the width of a text's vector"),
)
"""(kind, its key, kind, its key, what the number is): the two are equal, unless one is 0, "not used"."""


def check_compatible(manifest: Manifest, configs: dict[str, dict[str, Any]]) -> None:
    """Raise InputError (code `mismatch`) unless the stages fit together and make the manifest's sizes.

    configs: stage name -> its config, with the table `widths` described above.
    """
    widths: dict[str, dict[str, int]] = {}
    for entry in manifest.stages:
        table = configs[entry.name].get("widths")
        if not isinstance(table, dict):
            raise _mismatch(f"the stage {entry.name!r} does not say its widths")
        optional = [key for key in OPTIONAL.get(entry.kind, ()) if key in table]
        for key in (*WIDTHS[entry.kind], *optional):
            if type(table.get(key)) is not int or table[key] < 0:
                raise _mismatch(f"the stage {entry.name!r} does not say its {key}")
            least, most = _limits(entry.kind, key)
            if not least <= table[key] <= most:
                where = f"widths.{key} in {entry.files[0]}"
                raise _mismatch(f"{where} is {shown(table[key])}, not from {least} to {most}")
        widths[entry.name] = table
    readers = [entry for entry in manifest.stages if entry.kind in ENCODERS]
    if len(readers) > 1:
        raise _mismatch(f"there are two text encoders, {readers[0].name!r} and {readers[1].name!r}")
    for entry in manifest.stages:
        reads = entry.kind == "dalle" or (entry.kind not in ENCODERS and widths[entry.name].get("text_dim"))
        if reads and entry.source and readers and readers[0].source != entry.source:
            where = f"the stage {entry.name!r} of {entry.source!r} reads text"
            raise _mismatch(f"{where}, by another encoder than {readers[0].name!r}")
    _check_tokens(manifest, widths)
    for kind, key, other_kind, other_key, what in PAIRS:
        for a in manifest.of_kind(kind):
            for b in manifest.of_kind(other_kind):
                m, n = widths[a.name][key], widths[b.name].get(other_key, 0)
                if m and n and m != n:
                    raise _mismatch(f"{what} is {m} in stage {a.name!r} and {n} in stage {b.name!r}")
    sizes = [(e.name, widths[e.name].get("low"), widths[e.name]["size"]) for e in _pixel_stages(manifest)]
    for (name, _, size), (above, low, _) in pairwise(sizes):
        if size != low:
            raise _mismatch(f"the stage {name!r} ends at {size} pixels and the stage {above!r} starts from {low}")
    if list(manifest.sizes) != [size for _, _, size in sizes]:
        made = ", ".join(str(size) for _, _, size in sizes) or "none"
        said = ", ".join(str(size) for size in manifest.sizes) or "none"
        raise _mismatch(f"the manifest promises the sizes {said} and the stages make {made}")


def _check_tokens(manifest: Manifest, widths: dict[str, dict[str, int]]) -> None:
    """Raise InputError (code `mismatch`) for two stages in one place, and for what cannot stand beside DALL·E's."""
    smallest = [entry for kind in SMALLEST for entry in manifest.of_kind(kind)]
    if len(smallest) > 1:
        names = f"{smallest[0].name!r} and {smallest[1].name!r}"
        raise _mismatch(f"there are two stages that make the smallest picture, {names}")
    drawing = manifest.of_kind("dalle")
    if len(drawing) > 1:
        raise _mismatch(f"there are two stages that draw tokens, {drawing[0].name!r} and {drawing[1].name!r}")
    for entry in drawing:
        if manifest.of_kind("text"):
            raise _mismatch(f"the stage {entry.name!r} reads the tokens of a CLIP, and the text encoder is another")
        for clip in manifest.of_kind("clip"):
            if widths[entry.name]["context"] > widths[clip.name]["context"]:
                raise _mismatch(f"the stage {entry.name!r} reads more text tokens than {clip.name!r}")
        for vae in manifest.of_kind("vae"):
            if not widths[vae.name]["codes"]:
                raise _mismatch(
                    f"the stage {entry.name!r} draws tokens, and the latents of {vae.name!r} are continuous"
                )
            if entry.source and vae.source != entry.source:
                raise _mismatch(f"the stage {entry.name!r} of {entry.source!r} draws the tokens of another vae")


def _limits(kind: str, key: str) -> tuple[int, int]:
    """What the number `key` of the widths of a stage may be: far from all that is used, and nothing that would make
    another program hang or run out of memory."""
    if key in ("size", "low"):
        return 1, 8192
    if key == "context" and kind in ENCODERS:
        return 2, 65_536  # start and end
    return 0, 4_194_304


def pixel_sizes(manifest: Manifest, configs: dict[str, dict[str, Any]]) -> tuple[int, ...]:
    """Sides in pixels of the pictures of base, gan or vae and of the upsamplers, in the order they run."""
    return tuple(configs[e.name].get("widths", {}).get("size", 0) for e in _pixel_stages(manifest))


def _pixel_stages(manifest: Manifest) -> list[Any]:
    return [entry for kind in (*SMALLEST, "upsampler") for entry in manifest.of_kind(kind)]


def _mismatch(what: str) -> InputError:
    hint = "Train the later stage again on top of the earlier one, or take both from one model."
    return InputError(f"the stages do not fit together: {what}.", hint, "mismatch")
