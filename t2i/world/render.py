"""The renderer: scene graphs to pixels.

The background comes first, then each item from far to near with its shadow, the light of the place, haze and the strip
of ground before its feet, then the weather.

Shape legend: B scenes, K items a scene, S canvas side. Colours are sRGB in [0, 1], alpha is premultiplied.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.world.graph import Item, Scene, Thing
from t2i.world.places import PLACES, draw_places, foreground, weather
from t2i.world.places.over import STRIPS, WEATHER
from t2i.world.sprites import LUMA, MARGIN, Atlas
from t2i.world.vocabulary import COLOURS


def colour_rgb(word: str | None) -> tuple[float, float, float] | None:
    """sRGB in [0, 1] of a colour word."""
    if word is None:
        return None
    red, green, blue = COLOURS[word][1]
    return red / 255, green / 255, blue / 255


def render(
    scenes: Sequence[Scene], atlas: Atlas, size: int, *, things: Mapping[str, Thing], light: float = 1.0,
    masks: bool = False,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """Draw the scenes at `size` pixels a side on the atlas' device.

    light: strength of the light and the haze of the place on the things, [0, 1].

    Returns the pixels (B, 3, S, S) in [0, 1] and, if `masks`, the share of each pixel that each item owns (B, K, S, S),
    in the order of Scene.items, zero after a scene's last item.
    """
    device = atlas.aspect.device
    keys = [scene.place for scene in scenes]
    chance = torch.tensor([scene.chance for scene in scenes], device=device)
    backdrop = draw_places(keys, [colour_rgb(s.shade) for s in scenes], chance, size, device)
    canvas = backdrop.image
    most = max(len(scene.items) for scene in scenes)
    owned = canvas.new_zeros(len(scenes), most, size, size) if masks else None
    # Far items first. Slot s draws the s-th item, in that order, of every scene that has so many.
    orders = [sorted(range(len(s.items)), key=lambda k, s=s: (-s.items[k].depth, k)) for s in scenes]  # type: ignore[misc]
    for slot in range(most):
        rows = [b for b, order in enumerate(orders) if slot < len(order)]
        items = [scenes[b].items[orders[b][slot]] for b in rows]
        index = torch.tensor(rows, device=device)
        sprite, base = _sprites(scenes, rows, items, atlas, things, size)
        whole = len(rows) == len(scenes)
        part = canvas if whole else canvas[index]
        down = [
            i for i, (b, item) in enumerate(zip(rows, items, strict=True))
            if PLACES[keys[b]].ground and _rests(scenes[b], item, things)
        ]  # fmt: skip
        if down:
            at = torch.tensor(down, device=device)
            part[at] = _shadow(part[at], [items[i] for i in down], base[at], backdrop.shadow[index[at]], size)
        rgb, alpha = sprite[:, :3], sprite[:, 3:]
        tint = 1 + light * (backdrop.light[index] - 1)
        depth = torch.tensor([item.depth for item in items], device=device)
        fade = (light * backdrop.haze_amount[index] * (0.25 + 0.75 * depth)).view(-1, 1, 1, 1)
        lit = (rgb * tint[:, :, None, None]).mul_(1 - fade)
        lit.add_((backdrop.haze[index][:, :, None, None] * fade) * alpha)
        part = (part * (1 - alpha)).add_(lit)
        cover, at = _cover(
            [i for i in down if keys[rows[i]] in STRIPS], [keys[b] for b in rows], chance[index], base, size
        )
        if cover is not None:
            part[at] = part[at] * (1 - cover[:, 3:]) + cover[:, :3]
        if whole:
            canvas = part
        else:
            canvas[index] = part
        if owned is not None:
            seen = alpha[:, 0].clone()
            owned[index] *= 1 - alpha
            if cover is not None:
                seen[at] *= 1 - cover[:, 3]
                owned[index[at]] *= 1 - cover[:, 3:]
            for row, b in enumerate(rows):
                owned[b, orders[b][slot]] = seen[row]
    stormy = [b for b, key in enumerate(keys) if key in WEATHER]
    if stormy:
        at = torch.tensor(stormy, device=device)
        over = weather([keys[b] for b in stormy], chance[at], size, device)
        canvas[at] = canvas[at] * (1 - over[:, 3:]) + over[:, :3]
    return canvas.clamp_(0, 1), owned


def _rests(scene: Scene, item: Item, things: Mapping[str, Thing]) -> bool:
    """Whether the item touches the ground, so that it has a shadow."""
    if things[scene.groups[item.group].thing].pose not in ("stand", "lie"):
        return False
    relation = scene.relation
    if relation is None:
        return item.y + item.scale / 2 > 0.6
    aloft = {"wearing": relation.object, "holding": relation.object, "on": relation.subject,
             "above": relation.subject, "below": relation.object}  # fmt: skip
    return aloft.get(relation.kind) != item.group


def _sprites(
    scenes: Sequence[Scene], rows: Sequence[int], items: Sequence[Item], atlas: Atlas, things: Mapping[str, Thing],
    size: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The items, each on a canvas of its own (n, 4, S, S), and the heights of their feet (n,)."""
    device = atlas.aspect.device
    places = [
        atlas.index[scenes[b].style, scenes[b].groups[item.group].thing] for b, item in zip(rows, items, strict=True)
    ]
    groups = [scenes[b].groups[item.group] for b, item in zip(rows, items, strict=True)]
    # A red apple is not recoloured: that would lose the brown of its stem and the green of its leaf.
    colours = [
        None if group.colour == things[group.thing].colour and atlas.fits[at] else group.colour
        for group, at in zip(groups, places, strict=True)
    ]
    index = torch.tensor(places, device=device)
    pose = torch.tensor([(i.x, i.y, i.scale, -1.0 if i.flip else 1.0, i.angle) for i in items], device=device)
    theta = sprite_affine(pose)
    by_level: dict[int, list[int]] = defaultdict(list)
    for row, item in enumerate(items):
        by_level[mip_level(atlas, item.scale, size)].append(row)
    drawn = torch.empty(len(items), 4, size, size, device=device)
    for level, members in by_level.items():
        pick = torch.tensor(members, device=device)
        source = atlas.levels[level][index[pick]].float().mul_(1 / 255)
        wanted = [colours[row] for row in members]
        if any(wanted):
            source = _recolour(source, wanted, atlas.tone[index[pick]], atlas.grey[index[pick]])
        grid = F.affine_grid(theta[pick], [len(members), 4, size, size], align_corners=False)
        drawn[pick] = F.grid_sample(source, grid, align_corners=False)
    return drawn, pose[:, 1] + pose[:, 2] * atlas.aspect[index, 1] / 2


def sprite_affine(pose: Tensor) -> Tensor:
    """The affine maps (n, 2, 3) from the canvas to the sprite, both [-1, 1]: they undo shift, scale, tilt and flip.

    pose (n, 5): x, y, scale and angle as in `Item`, with flip, -1 or 1, before the angle.
    """
    x, y, scale, flip, angle = pose.unbind(1)
    inner = 1 - 2 * MARGIN
    cos, sin = torch.cos(angle) / scale * inner, torch.sin(angle) / scale * inner
    dx, dy = 1 - 2 * x, 1 - 2 * y
    rows = [flip * cos, flip * sin, flip * (cos * dx + sin * dy), -sin, cos, cos * dy - sin * dx]
    return torch.stack(rows, dim=1).view(-1, 2, 3)


def mip_level(atlas: Atlas, scale: float, size: int) -> int:
    """The resolution at which a sprite of this scale is read for a canvas of `size` pixels a side."""
    resolutions = sorted(atlas.levels)
    return next((r for r in resolutions if r >= 0.8 * scale * size), resolutions[-1])


def _recolour(source: Tensor, colours: Sequence[str | None], tone: Tensor, grey: Tensor) -> Tensor:
    """Recolour the chromatic pixels of the rows with a colour, keeping their shading.

    source (n, 4, r, r), premultiplied. tone (n,): the luma that becomes the colour itself; darker pixels scale the
    colour down, lighter ones mix it with white. Near-grey pixels (eyes, windows, whiskers) stay. Where grey (n,) says
    that the thing itself is grey, only dark pixels stay.
    """
    chosen = torch.tensor([i for i, colour in enumerate(colours) if colour], device=source.device)
    target = source.new_tensor([colour_rgb(c) for c in colours if c])[:, :, None, None]
    part = source[chosen]
    alpha = part[:, 3:]
    rgb = part[:, :3] / alpha.clamp_min(1 / 255)
    top, bottom = rgb.amax(1, keepdim=True), rgb.amin(1, keepdim=True)
    saturation = (top - bottom) / top.clamp_min(1e-3)
    chromatic = ((saturation - 0.12) / 0.2).clamp(0, 1)
    luma = (rgb * rgb.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
    body = ((luma - 0.16) / 0.16).clamp(0, 1) * grey[chosen].view(-1, 1, 1, 1)
    chromatic = torch.maximum(chromatic, body)
    ratio = luma / tone[chosen].view(-1, 1, 1, 1)
    highlight = ((ratio - 1) * 0.45).clamp(0, 0.6)
    painted = target * ratio.clamp(max=1) ** 0.8 * (1 - highlight) + highlight
    source = source.clone()
    source[chosen, :3] = torch.lerp(rgb, painted, chromatic) * alpha
    return source


def _shadow(part: Tensor, items: Sequence[Item], base: Tensor, strength: Tensor, size: int) -> Tensor:
    """The canvases `part` (n, 3, S, S) with a soft elliptic shadow under each item.

    base (n,): heights of the feet. strength (n,) in [0, 1].
    """
    xs = (torch.arange(size, device=part.device) + 0.5) / size
    centre = torch.tensor([(i.x, i.scale) for i in items], device=part.device)
    across = ((xs - centre[:, :1]) / (0.40 * centre[:, 1:])).square()  # (n, S)
    down = ((xs - base[:, None] + 0.01) / (0.085 * centre[:, 1:])).square()
    dark = torch.exp(-1.4 * down)[:, :, None] * torch.exp(-1.4 * across)[:, None, :]
    return part * (1 - 0.75 * strength.view(-1, 1, 1) * dark).unsqueeze(1)


def _cover(rows: list[int], keys: list[str], chance: Tensor, base: Tensor, size: int) -> tuple[Tensor | None, Tensor]:
    """The strips of ground before the feet of the items `rows`: RGBA (n, 4, S, S) or None, and the rows as a tensor."""
    at = torch.tensor(rows, dtype=torch.long, device=base.device)
    if not rows:
        return None, at
    return foreground([keys[row] for row in rows], chance[at], base[at], size, base.device), at
