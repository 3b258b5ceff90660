"""What a bundle says about each stage that a recipe trains: its config, its widths, how it is sampled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from t2i.errors import InputError, UsageError
from t2i.store.bundle import Bundle, find_shared, read_bundle
from t2i.store.compatibility import ENCODERS, check_compatible, pixel_sizes
from t2i.store.manifest import KINDS, Manifest, StageEntry
from t2i.text.t5 import t5_config
from t2i.train.recipe import Recipe, UpsamplerRecipe


def entry_of(recipe: Recipe, stage: str) -> tuple[StageEntry, dict[str, Any]]:
    """The manifest's entry and the config.json of a stage that this recipe trains."""
    s, part = recipe.sample, getattr(recipe, stage)
    config: dict[str, Any] = {"net": part.net.to_dict()}
    if stage == "text":
        return StageEntry(stage, "text", stage), config | _text(recipe)
    if stage == "clip":
        n = recipe.clip.net
        config["widths"] = {
            "embed_dim": n.embed_dim,
            "text_dim": n.text_width,
            "context": n.context,
            "vocab": n.vocab,
        }
        return StageEntry(stage, "clip", stage), config
    config |= {"prediction": part.objective.prediction, "process": {"kind": "flow"}}
    if stage == "base":
        b = recipe.base
        config |= {
            "widths": {"cond_dim": b.net.cond_dim, "text_dim": b.net.text_dim, "size": b.size},
            "size": b.size,
        }
        if b.net.text_dim:
            config["widths"]["context"] = getattr(recipe, recipe.encoder).net.context
        defaults = s.base
        if not b.net.text_dim:
            defaults = replace(defaults.without_text, z_guidance=None)
        elif not b.net.cond_dim:
            defaults = replace(defaults, z_guidance=None)
        return StageEntry(stage, "base", stage, defaults), config
    if stage == "prior":
        p = recipe.prior.net
        config["widths"] = {"embed_dim": p.embed_dim, "text_dim": p.token_dim}
        return StageEntry(stage, "prior", stage, s.prior), config
    assert isinstance(part, UpsamplerRecipe)
    config["widths"] = {"low": part.size // part.net.scale, "size": part.size}
    if part.net.pooled_dim:
        config["widths"]["text_dim"] = part.net.pooled_dim
    if part.instead_of:  # its one step is what it was tuned for
        defaults = replace(s.upsampler, steps=1)
        return StageEntry(stage, "sharp", stage, defaults, instead_of=part.instead_of), config
    return StageEntry(stage, "upsampler", stage, s.upsampler), config


def _text(recipe: Recipe) -> dict[str, Any]:
    """What the config of a text-only encoder says: our language model's, or that of the T5 in the recipe's folder."""
    text, net = recipe.text, recipe.text.net
    if text.encoder == "t5":
        config = t5_config(Path(text.folder))
        widths = {"text_dim": config["d_model"], "context": net.context, "vocab": config["vocab_size"]}
        return {"encoder": "t5", "net": config, "widths": widths}
    widths = {"text_dim": net.width, "context": net.context, "vocab": net.vocab}
    return {"encoder": "language", "widths": widths}


def learned_from_encoder(bundle: Bundle, entry: StageEntry) -> bool:
    """Whether a stage is worth nothing beside a newly trained text encoder: it learned from the one before."""
    reads = bundle.configs[entry.name]["widths"].get("text_dim")
    return entry.kind in ("prior", "base") or bool(reads and entry.kind not in ENCODERS)


def check(recipe: Recipe, stages: tuple[str, ...], bundle: Bundle | None, folder: Path = Path("model")) -> None:
    """Would the stages fit together, and with what the bundle in `folder` holds already? Asked before hours are spent.

    Raises UsageError (code ``config``) for sizes that a stage cannot have, else InputError (``mismatch``).
    """
    clip, base = recipe.clip.net, recipe.base
    rules = [
        (clip.image_size % clip.patch == 0, "clip.net.image_size is not a multiple of clip.net.patch"),
        (
            clip.vision_width % clip.vision_head_width == 0,
            "clip.net.vision_width is not a multiple of its vision_head_width",
        ),
        (
            clip.text_width % clip.text_heads == 0,
            "clip.net.text_width is not a multiple of clip.net.text_heads",
        ),
        (
            base.size % base.net.multiple == 0,
            f"base.size is not a multiple of {base.net.multiple}, as base.net needs",
        ),
        (base.net.in_channels == 7, "base.net.in_channels is not 7: colours, mask, masked colours"),
        # the small base that trains with CLIP is the base's own network
        (
            "clip" not in stages or base.net.cond_dim in (0, clip.embed_dim),
            "base.net.cond_dim differs from clip.net.embed_dim",
        ),
        (
            "clip" not in stages or bool(base.net.cond_dim) or not recipe.clip.denoise,
            "clip.denoise needs base.net.cond_dim",
        ),
    ]
    blind = recipe.encoder == "text" and "base" in stages
    rules.append(("prior" not in stages or recipe.encoder == "clip", "a prior needs CLIP, and [text] takes its place"))
    rules.append((not blind or not base.net.cond_dim, "base.net.cond_dim is not 0, and there is no CLIP to embed"))
    for name in stages:
        part = getattr(recipe, name)
        if isinstance(part, UpsamplerRecipe) and name not in recipe.share:
            unit, sharp = part.net.unshuffle, part.instead_of
            rules += [
                (bool(sharp) == bool(part.adversarial), f"{name}.instead_of and {name}.adversarial go together"),
                (part.adversarial >= 0, f"{name}.adversarial is below 0"),
            ]
            if sharp and sharp in stages:
                rules.append((not part.net.pooled_dim, f"{name} reads no text, and {name}.net.pooled_dim is not 0"))
                rules.append((part.net == getattr(recipe, sharp).net, f"{name}.net is not that of {sharp}"))
            rules.append((part.crop <= (part.drawn or part.size), f"{name}.crop is larger than its pictures"))
            rules.append(
                (
                    part.crop % unit == 0 == part.size % unit == (part.drawn or 0) % unit,
                    f"{name}.crop, .size and .drawn are not multiples of {unit}",
                )
            )
    for fine, sentence in rules:
        if not fine:
            raise UsageError(f"the recipe {recipe.name!r} cannot be used: {sentence}.", code="config")
    entries, configs = _together(recipe, stages, bundle, folder)
    manifest = Manifest(recipe.family, recipe.name, tuple(entries), ())
    manifest = replace(manifest, sizes=pixel_sizes(manifest, configs))
    try:
        check_compatible(manifest, configs)
    except InputError as error:
        if bundle is None:
            raise UsageError(f"the recipe {recipe.name!r} cannot be used: {error.message}", code="config") from error
        hint = "Train with the recipe that the model was started with, or choose another --out."
        raise InputError(error.message, hint, "mismatch") from error


def _together(
    recipe: Recipe, stages: tuple[str, ...], bundle: Bundle | None, folder: Path
) -> tuple[list[StageEntry], dict[str, dict[str, Any]]]:
    """Entries and configs of the bundle as it will be, in the order they run."""
    made = {name: _shared(recipe, name, folder) or entry_of(recipe, name) for name in stages}
    entries: list[StageEntry] = []
    configs: dict[str, dict[str, Any]] = {}
    for entry in bundle.manifest.stages if bundle else ():
        assert bundle is not None
        if entry.name not in made and not (recipe.encoder in made and learned_from_encoder(bundle, entry)):
            entries.append(entry)
            configs[entry.name] = bundle.configs[entry.name]
    for name, (entry, config) in made.items():
        entries.append(entry)
        configs[name] = config
    old = [e.name for e in bundle.manifest.stages] if bundle else []
    entries.sort(key=lambda e: (KINDS.index(e.kind), old.index(e.name) if e.name in old else len(old)))
    return entries, configs


def _shared(recipe: Recipe, stage: str, folder: Path) -> tuple[StageEntry, dict[str, Any]] | None:
    """Entry and config of a stage that the recipe shares with another model; None for one that it trains."""
    if stage not in recipe.share:
        return None
    entry, place = find_shared(folder, stage, recipe.share[stage])
    return entry, read_bundle(place).configs[stage]
