"""The judge: a small detector that finds the objects and the background of a picture.

It shares no weights with any generator. The architecture follows CenterNet (arXiv 1904.07850). For every cell of a
16 x 16 grid it predicts the probability that the centre of an object lies there (trained with the penalty-reduced focal
loss, eq. 1) and that object's kind, colour, size and offset in the cell. The paper has one sigmoid map per kind. Here a
softmax over kinds is used: every object trains all kinds, and two kinds cannot both claim one object. A second head
classifies the background from pooled features.

Shape legend: B pictures, G = 16 grid side, K kinds of object, C colours, P places.
"""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.errors import InputError
from t2i.files import read_bytes
from t2i.world.judge_config import CONFIG, SCHEMA, JudgeConfig, read_config, unreadable
from t2i.world.reading import Detection, Reading

SIZE = 64  # side of the input
GRID = 16  # side of the output


class ConvNorm(nn.Module):
    """A convolution and a batch norm. folded: the norm is part of the convolution."""

    def __init__(self, n_in: int, n_out: int, kernel: int = 3, stride: int = 1, folded: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2, bias=folded)
        self.norm: nn.Module = nn.Identity() if folded else nn.BatchNorm2d(n_out)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.conv(x))
        return y

    def fold(self) -> None:
        """Fold the norm, in eval mode, into the convolution."""
        if isinstance(self.norm, nn.BatchNorm2d):
            self.conv = nn.utils.fusion.fuse_conv_bn_eval(self.conv.eval(), self.norm.eval())
            self.norm = nn.Identity()


class Residual(nn.Module):
    """A residual block of two 3 x 3 convolutions."""

    def __init__(self, width: int, folded: bool) -> None:
        super().__init__()
        self.one = ConvNorm(width, width, folded=folded)
        self.two = ConvNorm(width, width, folded=folded)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.two(F.relu(self.one(x))))


@dataclass(frozen=True)
class Maps:
    """The outputs of the network. Classes and centres are logits."""

    centre: Tensor  # (B, G, G): whether a centre lies in the cell
    thing: Tensor  # (B, K, G, G)
    colour: Tensor  # (B, C, G, G)
    box: Tensor  # (B, 4, G, G) in [0, 1]: width and height, shares of the canvas; x and y in the cell
    place: Tensor  # (B, P)
    shade: Tensor  # (B, number of shades)


class JudgeNet(nn.Module):
    """Pixels (B, 3, 64, 64) in [-1, 1] -> Maps. About 0.1 GMAC a picture at the default widths."""

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__()
        self.config, folded = config, config.folded
        w32, w16, w8, head = config.widths
        self.stem = ConvNorm(12, w32, folded=folded)
        self.to16 = ConvNorm(w32, w16, stride=2, folded=folded)
        self.at16 = nn.Sequential(*[Residual(w16, folded) for _ in range(config.blocks[0])])
        self.to8 = ConvNorm(w16, w8, stride=2, folded=folded)
        self.at8 = nn.Sequential(*[Residual(w8, folded) for _ in range(config.blocks[1])])
        self.back = ConvNorm(w8, w16, kernel=1, folded=folded)
        self.head = ConvNorm(w16, head, folded=folded)
        self.sizes = (1, len(config.things), len(config.colours), 4)
        self.cells = nn.Conv2d(head, sum(self.sizes), 1)
        self.whole = nn.Linear(w8 + w16, len(config.places) + len(config.shades))
        with torch.no_grad():
            self.cells.bias.zero_()  # type: ignore[union-attr]
            self.cells.bias[0] = -4.0  # type: ignore[index]  # few cells hold a centre: prior of RetinaNet

    def trunk(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, D, 16, 16) and (B, D', 8, 8)."""
        x = F.pixel_unshuffle(pixels, 2).contiguous(memory_format=torch.channels_last)
        x16: Tensor = self.at16(F.relu(self.to16(F.relu(self.stem(x)))))
        return x16, self.at8(F.relu(self.to8(x16)))

    def pooled(self, x16: Tensor, x8: Tensor) -> Tensor:
        """Means of the features over the cells, (B, D' + D): input of the background head."""
        return torch.cat([x8.mean((2, 3)), x16.mean((2, 3))], dim=1)

    def forward(self, pixels: Tensor) -> Maps:
        x16, x8 = self.trunk(pixels)
        up = F.interpolate(self.back(x8), scale_factor=2.0, mode="nearest")
        cells = self.cells(F.relu(self.head(F.relu(x16 + up)))).float()
        whole = self.whole(self.pooled(x16, x8)).float()
        centre, thing, colour, box = torch.split(cells, list(self.sizes), dim=1)
        place, shade = torch.split(whole, [len(self.config.places), len(self.config.shades)], dim=1)
        return Maps(centre[:, 0], thing, colour, box.sigmoid(), place, shade)

    def fold(self) -> JudgeNet:
        """A copy with batch norms folded into the convolutions; the same outputs in eval mode."""
        other = copy.deepcopy(self).eval()
        for module in other.modules():
            if isinstance(module, ConvNorm):
                module.fold()
        other.config = replace(self.config, folded=True)
        return other

    @torch.no_grad()
    def unfold(self, pixels: Tensor) -> JudgeNet:
        """A copy of a folded net with batch norms, to train it further; the same outputs in eval mode.

        pixels (B, 3, 64, 64) in [-1, 1]: at least 32 training pictures. Each norm takes its mean and variance from
        them, and a scale and a shift that cancel these.
        """
        other = JudgeNet(replace(self.config, folded=False)).eval()
        other.load_state_dict(self.state_dict(), strict=False)
        hooks = []
        for name, module in other.named_modules():
            if isinstance(module, ConvNorm):
                assert isinstance(module.norm, nn.BatchNorm2d)
                own = self.get_submodule(name)
                assert isinstance(own, ConvNorm) and own.conv.bias is not None
                bias = own.conv.bias
                hooks.append(module.norm.register_forward_pre_hook(partial(_take_statistics, bias)))
        other(pixels)
        for hook in hooks:
            hook.remove()
        return other


def _take_statistics(bias: Tensor, norm: nn.Module, inputs: tuple[Tensor]) -> None:
    """Set the statistics of the norm from its inputs, and an affine map that restores them plus `bias`."""
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
    variance, mean = torch.var_mean(inputs[0], dim=(0, 2, 3))
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    norm.weight.copy_((variance + norm.eps).sqrt())
    norm.bias.copy_(mean + bias)


def to_input(pixels: Tensor) -> Tensor:
    """(B, 3, H, W) in [-1, 1] -> (B, 3, 64, 64): shrunk by area, or enlarged bilinearly."""
    assert pixels.ndim == 4 and pixels.shape[1] == 3, tuple(pixels.shape)
    height, width = pixels.shape[2:]
    if (height, width) == (SIZE, SIZE):
        return pixels
    if min(height, width) >= SIZE:
        return F.interpolate(pixels, (SIZE, SIZE), mode="area")
    return F.interpolate(pixels, (SIZE, SIZE), mode="bilinear", antialias=True)


def _iou(a: Detection, b: Detection) -> float:
    """Intersection over union of two boxes."""
    across = min(a.x + a.w / 2, b.x + b.w / 2) - max(a.x - a.w / 2, b.x - b.w / 2)
    down = min(a.y + a.h / 2, b.y + b.h / 2) - max(a.y - a.h / 2, b.y - b.h / 2)
    both = max(across, 0.0) * max(down, 0.0)
    return both / max(a.w * a.h + b.w * b.h - both, 1e-6)


def decode(maps: Maps, config: JudgeConfig) -> list[Reading]:
    """The readings: peaks of the centre map above the threshold, without duplicates (IoU above 0.45, same kind)."""
    heat = maps.centre.sigmoid()
    peak = heat * (F.max_pool2d(heat[:, None], 3, 1, 1)[:, 0] == heat)
    kind_p, kind = maps.thing.softmax(1).max(1)
    colour, box = maps.colour.argmax(1), maps.box
    place_p, place = maps.place.softmax(1).max(1)
    shade = maps.shade.argmax(1)
    readings = []
    for b in range(heat.shape[0]):
        spots = (peak[b] > config.threshold).nonzero().tolist()
        candidates = []
        for r, c in spots:
            w, h, dx, dy = box[b, :, r, c].tolist()
            candidates.append(
                Detection(
                    config.things[int(kind[b, r, c])],
                    (c + dx) / GRID,
                    (r + dy) / GRID,
                    float(heat[b, r, c] * kind_p[b, r, c]),
                    config.colours[int(colour[b, r, c])],
                    w,
                    h,
                )
            )
        kept: list[Detection] = []
        for f in sorted(candidates, key=lambda f: -f.score):
            if not any(f.thing == k.thing and _iou(f, k) > 0.45 for k in kept):
                kept.append(f)
        key = config.places[int(place[b])]
        tone = config.shades[int(shade[b])] if key == "plain" else None
        readings.append(Reading(tuple(kept), key, float(place_p[b]), tone))
    return readings


class Judge:
    """A trained judge. The result for a picture depends on its pixels alone, never on its batch."""

    def __init__(self, net: JudgeNet) -> None:
        self.net = net.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.config = net.config

    @torch.no_grad()
    def maps(self, pixels: Tensor) -> Maps:
        """The network's maps of pictures (B, 3, H, W), RGB in [-1, 1], of any size; `decode` reads them."""
        maps: Maps = self.net(to_input(pixels.to(next(self.net.parameters()).device, torch.float32)))
        return maps

    def read(self, pixels: Tensor, batch: int = 64) -> list[Reading]:
        """Readings of pictures (B, 3, H, W), RGB in [-1, 1], of any size."""
        out: list[Reading] = []
        for part in torch.split(pixels, batch):
            out += decode(self.maps(part), self.config)
        return out

    @torch.no_grad()
    def features(self, pixels: Tensor, batch: int = 64) -> Tensor:
        """Pooled features (B, D) float32 of pictures (B, 3, H, W), RGB in [-1, 1], of any size."""
        device = next(self.net.parameters()).device
        parts = [self.net.trunk(to_input(p.to(device, torch.float32))) for p in torch.split(pixels, batch)]
        return torch.cat([self.net.pooled(*part) for part in parts]).float().cpu()

    def save(self, folder: Path | str) -> None:
        """Write config.json and model.safetensors (fp16, folded)."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        net = self.net if self.config.folded else self.net.fold()
        weights = {name: t.detach().half().contiguous().cpu() for name, t in net.state_dict().items()}
        blob = safetensors.torch.save(weights, metadata={"format": "pt"})
        (folder / "model.safetensors").write_bytes(blob)
        record = {"schema": SCHEMA, "sha256": hashlib.sha256(blob).hexdigest(), **asdict(net.config)}
        (folder / CONFIG).write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path | str) -> Judge:
        """Read a saved judge. Raises InputError if a file is missing, damaged or of another schema."""
        folder = Path(folder)
        config, sha256 = read_config(folder)
        try:
            blob = read_bytes(folder / "model.safetensors")
            if hashlib.sha256(blob).hexdigest() != sha256:
                raise InputError(f"the judge in {folder} is damaged: its checksum differs", "fetch the folder again")
            net = JudgeNet(config)
            net.load_state_dict({name: t.float() for name, t in safetensors.torch.load(blob).items()})
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise unreadable(folder, error) from error
        return cls(net)
