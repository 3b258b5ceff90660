"""What a bundle says about each stage that a recipe trains: its config, its widths, how it is sampled."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from t2i.errors import InputError, UsageError
from t2i.store.bundle import KINDS, Bundle, Defaults, Manifest, StageEntry
from t2i.store.fit import check_fit, pixel_sizes
from t2i.train.recipe import Recipe, UpsamplerRecipe


def entry_of(recipe: Recipe, stage: str) -> tuple[StageEntry, dict[str, Any]]:
    """The manifest's entry and the config.json of a stage that this recipe trains."""
    s, part = recipe.sample, getattr(recipe, stage)
    config: dict[str, Any] = {"net": part.net.to_dict()}
    if stage == "clip":
        n = recipe.clip.net
        config["widths"] = {
            "embed_dim": n.embed_dim,
            "text_dim": n.text_width,
            "context": n.context,
            "vocab": n.vocab,
        }
        return StageEntry(stage, "clip", stage, Defaults()), config
    config |= {"prediction": part.objective.prediction, "process": {"kind": "flow"}}
    if stage == "base":
        b = recipe.base
        config |= {
            "widths": {"cond_dim": b.net.cond_dim, "text_dim": b.net.text_dim, "size": b.size},
            "size": b.size,
        }
        defaults = Defaults(steps=s.base_steps, guidance=s.base_guidance, sampler=s.sampler, schedule="uniform_t")
        return StageEntry(stage, "base", stage, defaults), config
    if stage == "prior":
        p = recipe.prior.net
        config["widths"] = {"embed_dim": p.embed_dim, "text_dim": p.token_dim}
        defaults = Defaults(
            steps=s.prior_steps,
            guidance=s.prior_guidance,
            sampler="euler",
            schedule="uniform_t",
            extra={"best_of": 2},
        )
        return StageEntry(stage, "prior", stage, defaults), config
    assert isinstance(part, UpsamplerRecipe)
    config["widths"] = {"low": part.size // part.net.scale, "size": part.size}
    defaults = Defaults(steps=s.upsampler_steps, sampler="euler", schedule="uniform_t", extra={"noise": 0.0})
    return StageEntry(stage, "upsampler", stage, defaults), config


def check(recipe: Recipe, stages: tuple[str, ...], bundle: Bundle | None) -> None:
    """Would the stages fit together, and with what the bundle holds already? Asked before hours are spent.

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
    for name in stages:
        part = getattr(recipe, name)
        if isinstance(part, UpsamplerRecipe):
            unit = part.net.unshuffle
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
    entries, configs = _together(recipe, stages, bundle)
    manifest = Manifest("unclip", recipe.name, tuple(entries), ())
    manifest = replace(manifest, sizes=pixel_sizes(manifest, configs))
    try:
        check_fit(manifest, configs)
    except InputError as error:
        if bundle is None:
            raise UsageError(f"the recipe {recipe.name!r} cannot be used: {error.message}", code="config") from error
        hint = "Train with the recipe that the model was started with, or choose another --out."
        raise InputError(error.message, hint, "mismatch") from error


def _together(
    recipe: Recipe, stages: tuple[str, ...], bundle: Bundle | None
) -> tuple[list[StageEntry], dict[str, dict[str, Any]]]:
    """Entries and configs of the bundle as it will be, in the order they run."""
    made = {name: entry_of(recipe, name) for name in stages}
    entries: list[StageEntry] = []
    configs: dict[str, dict[str, Any]] = {}
    for entry in bundle.manifest.stages if bundle else ():
        # a new CLIP drops the stages that learned from the old one
        if entry.name not in made and not ("clip" in made and entry.kind in ("prior", "base")):
            entries.append(entry)
            configs[entry.name] = bundle.configs[entry.name]  # type: ignore[union-attr]
    for name, (entry, config) in made.items():
        entries.append(entry)
        configs[name] = config
    old = [e.name for e in bundle.manifest.stages] if bundle else []
    entries.sort(key=lambda e: (KINDS.index(e.kind), old.index(e.name) if e.name in old else len(old)))
    return entries, configs
