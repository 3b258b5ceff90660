"""Names of models on the hub: ORG/NAME, ORG/NAME@REVISION, and short names, which stand for an ORG/NAME and no more."""

from __future__ import annotations

import re
from dataclasses import dataclass

from t2i.errors import UsageError, nearest

SHORT_NAMES = {
    "karlo": "kakaobrain/karlo-v1-alpha",
    "karlo-variations": "kakaobrain/karlo-v1-alpha-image-variations",
    "kandinsky-2.2": "kandinsky-community/kandinsky-2-2-decoder",
    "kandinsky-2.2-inpaint": "kandinsky-community/kandinsky-2-2-decoder-inpaint",
    "kandinsky-2.2-prior": "kandinsky-community/kandinsky-2-2-prior",
    "if-xl": "DeepFloyd/IF-I-XL-v1.0",
    "if-xl-stage2": "DeepFloyd/IF-II-L-v1.0",
    "sd-1.5": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "sd-turbo": "stabilityai/sd-turbo",
    "sdxl": "stabilityai/stable-diffusion-xl-base-1.0",
    "sdxl-turbo": "stabilityai/sdxl-turbo",
    "sd-3.5-medium": "stabilityai/stable-diffusion-3.5-medium",
    "sd-3.5-large": "stabilityai/stable-diffusion-3.5-large",
    "sd-x4-upscaler": "stabilityai/stable-diffusion-x4-upscaler",
    "sd-latent-upscaler": "stabilityai/sd-x2-latent-upscaler",
    "flux-schnell": "black-forest-labs/FLUX.1-schnell",
    "flux-dev": "black-forest-labs/FLUX.1-dev",
    "pixart-sigma": "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS",
    "sana": "Efficient-Large-Model/Sana_1600M_1024px_diffusers",
    "lumina-2": "Alpha-VLLM/Lumina-Image-2.0",
    "z-image-turbo": "Tongyi-MAI/Z-Image-Turbo",
    "qwen-image": "Qwen/Qwen-Image",
    "auraflow": "fal/AuraFlow",
}
"""Short name -> repository. Which revision, licence and files it has, the hub says when it is pulled."""
_PART = r"[A-Za-z0-9](?:[\w.-]{0,94}[\w])?"
_NAME = re.compile(rf"({_PART})/({_PART})(?:@([\w][\w./-]{{0,99}}))?", re.ASCII)


@dataclass(frozen=True)
class HubName:
    """repo: ORG/NAME. revision: a branch, a tag or a commit; "" for the hub's default, or for the one pulled last."""

    repo: str
    revision: str = ""

    def __str__(self) -> str:
        return f"{self.repo}@{self.revision}" if self.revision else self.repo


def parse_hub_name(text: str) -> HubName | None:
    """What a short name or ORG/NAME[@REVISION] stands for; None for another text."""
    short, at, revision = text.partition("@")
    if short in SHORT_NAMES:
        text = f"{SHORT_NAMES[short]}{at}{revision}"
    found = _NAME.fullmatch(text)
    if not found or ".." in text or "--" in found[1]:
        return None
    return HubName(f"{found[1]}/{found[2]}", found[3] or "")


def require_hub_name(text: str) -> HubName:
    """The same. Raises UsageError for another text."""
    name = parse_hub_name(text)
    if name is None:
        near = nearest(text, list(SHORT_NAMES))
        hint = f"Did you mean {' or '.join(near)}?" if near else f"Short names: {', '.join(SHORT_NAMES)}."
        raise UsageError(f"{text!r} is no model of the hub, which is written ORG/NAME or ORG/NAME@REVISION.", hint)
    return name
