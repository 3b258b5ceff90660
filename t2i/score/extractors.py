"""Feature extractors: networks that turn a picture, and some of them a prompt, into a vector.

    clip:NAME         the CLIP of a bundle of ours
    judge             the judge's pooled features; reads no prompts
    open_clip:ARCH    an architecture of open_clip with weights from a local file

Features are unit vectors for CLIP, and unnormalised for the judge. Shapes: B pictures, S input side, D features.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from t2i.errors import InputError, UnavailableError
from t2i.files import explain_os_error, hash_file
from t2i.media.images import to_tensor
from t2i.nets.clip import Clip
from t2i.score.recipe import NetworkInfo
from t2i.stages.loading import load_net
from t2i.store.bundle import read_bundle
from t2i.store.registry import resolve, resolve_judge
from t2i.text.tokenizer import Tokenizer
from t2i.text.words import KnownWords
from t2i.world.judge import SIZE as JUDGE_SIZE
from t2i.world.judge import Judge

RESIZE_AREA = "centre square, area down, bicubic up"
RESIZE_BICUBIC = "centre square, bicubic antialiased"


class Extractor(Protocol):
    """A network that measures pictures. `prepare` must be thread-safe; the other methods are called from one thread."""

    info: NetworkInfo

    def prepare(self, image: Image.Image) -> Tensor:
        """An upright RGB image -> the network's input (3, S, S)."""

    def features(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D) float32 on the CPU."""

    def texts(self, texts: Sequence[str]) -> Tensor | None:
        """Unit text vectors (B, D) in the space of the pictures' features, or None if the network reads no text."""

    def scale(self) -> float:
        """What cosines are multiplied by before a softmax over texts."""


def center_square(image: Image.Image, side: int, bicubic: bool = False) -> Image.Image:
    """The picture's central square at `side` pixels; reduced by area unless `bicubic`, enlarged by bicubic."""
    reduce_by_area = min(image.size) > side and not bicubic
    method = Image.Resampling.BOX if reduce_by_area else Image.Resampling.BICUBIC
    return ImageOps.fit(image, (side, side), method)


class ClipExtractor:
    """The CLIP of a bundle of ours. Raises UnavailableError if the bundle has none."""

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        bundle = read_bundle(folder)
        entries = bundle.manifest.of_kind("clip")
        if not entries:
            raise UnavailableError(f"the model in {folder} has no CLIP.", "Choose another --extractor.", "metric")
        net = load_net(bundle, entries[0])
        assert isinstance(net, Clip)
        self.net = net.eval().requires_grad_(False).to(device)
        self.tokenizer = Tokenizer.parse(bundle.tokenizer_json() or "", str(folder))
        self.side, self.device = self.net.config.image_size, device
        self.words = KnownWords.from_notes(bundle.manifest.notes)
        digest = bundle.manifest.digest(entries[0])
        self.info = NetworkInfo(f"clip:{bundle.manifest.name}", digest, self.side, RESIZE_AREA)

    def prepare(self, image: Image.Image) -> Tensor:
        return to_tensor(center_square(image, self.side))

    @torch.inference_mode()
    def features(self, pixels: Tensor) -> Tensor:
        return F.normalize(self.net.encode_image(pixels.to(self.device)), dim=-1).float().cpu()

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> Tensor:
        ids, _ = self.tokenizer.encode(list(texts), self.net.config.context)
        # one at a time: the numbers of a prompt must not depend on the other prompts of a batch
        pooled = torch.cat([self.net.encode_text(row[None].to(self.device)).pooled for row in ids])
        return F.normalize(pooled, dim=-1).float().cpu()

    def scale(self) -> float:
        return float(self.net.logit_scale.exp())


class JudgeExtractor:
    """The pooled features of the judge."""

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        self.judge = Judge.load(folder)
        self.judge.net.to(device)
        self.info = judge_info(folder)

    def prepare(self, image: Image.Image) -> Tensor:
        return to_tensor(center_square(image, self.info.side))

    def features(self, pixels: Tensor) -> Tensor:
        return self.judge.features(pixels)

    def texts(self, texts: Sequence[str]) -> None:
        return None

    def scale(self) -> float:
        return 1.0


class OpenClipExtractor:
    """An architecture of open_clip with the weights of a local file. Nothing is downloaded.

    Raises UnavailableError for a missing file, library or architecture, InputError for weights of another hash or
    shape.
    """

    def __init__(self, arch: str, weights: Path, device: str = "cpu", sha256: str | None = None) -> None:
        digest = weights_hash(weights)
        if sha256 and digest != sha256.lower():
            raise InputError(f"{weights} is another file: its sha256 is {digest}.", "Fetch it again.")
        try:
            import open_clip
        except ImportError as error:
            raise UnavailableError(
                "open_clip is not installed.", "pip install open_clip_torch", "dependency"
            ) from error
        if arch not in open_clip.list_models():
            raise UnavailableError(f"open_clip has no architecture {arch!r}.", "See open_clip.list_models().", "metric")
        try:
            self.net: Any = open_clip.create_model(arch, pretrained=str(weights), device=device)
            self.tokenizer: Any = open_clip.get_tokenizer(arch)
        except pickle.UnpicklingError as error:  # torch's own message advises to let it run code
            what = f"{weights} holds more than tensors, which could run code, and was not read."
            raise InputError(what, "Save its weights as a safetensors file.") from error
        except Exception as error:  # a checkpoint of another shape raises nearly anything
            first_line = str(error).splitlines()[0][:200] if str(error) else repr(error)
            what = f"{weights} cannot be used as {arch}: {first_line}"
            raise InputError(what, "Name the architecture that it was saved from.") from error
        self.net.eval().requires_grad_(False)
        size = self.net.visual.image_size
        self.side, self.device = (size[0] if isinstance(size, (tuple, list)) else int(size)), device
        self.mean, self.std = (torch.tensor(v)[:, None, None] for v in _normalisation(self.net))
        self.info = NetworkInfo(f"open_clip:{arch}", digest, self.side, RESIZE_BICUBIC)

    def prepare(self, image: Image.Image) -> Tensor:
        return ((to_tensor(center_square(image, self.side, bicubic=True)) + 1) / 2 - self.mean) / self.std

    @torch.inference_mode()
    def features(self, pixels: Tensor) -> Tensor:
        return F.normalize(self.net.encode_image(pixels.to(self.device)), dim=-1).float().cpu()

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> Tensor:
        rows = [self.net.encode_text(self.tokenizer([text]).to(self.device)) for text in texts]
        return F.normalize(torch.cat(rows), dim=-1).float().cpu()

    def scale(self) -> float:
        return float(self.net.logit_scale.exp())


def _normalisation(net: Any) -> tuple[Any, Any]:
    """Mean and standard deviation of the pixels, per channel."""
    from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    visual = net.visual
    return (
        getattr(visual, "image_mean", None) or OPENAI_DATASET_MEAN,
        getattr(visual, "image_std", None) or OPENAI_DATASET_STD,
    )


def load_extractor(name: str, weights: Path | None, sha256: str | None, device: str) -> Extractor:
    """The network of a checked `--extractor`. sha256: what the weights must hash to, or None."""
    kind, _, arch = name.partition(":")
    if kind == "judge":
        return JudgeExtractor(resolve_judge(), device)
    if kind == "open_clip":
        assert weights is not None
        return OpenClipExtractor(arch, weights, device, sha256)
    return ClipExtractor(resolve(arch or "small"), device)  # the same for all models, so that scores compare


def judge_info(folder: Path) -> NetworkInfo:
    """The judge in `folder`, as a recipe names it."""
    return NetworkInfo("judge", weights_hash(folder / "model.safetensors"), JUDGE_SIZE, RESIZE_AREA)


def weights_hash(path: Path) -> str:
    """sha256 of a network's file. Raises UnavailableError (code `metric`) where it cannot be read."""
    try:
        return hash_file(path)
    except OSError as error:
        what = f"the weights {path} cannot be read: {explain_os_error(error)}."
        raise UnavailableError(what, "Fetch them first; nothing is downloaded here.", "metric") from error
