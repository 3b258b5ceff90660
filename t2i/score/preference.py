"""Which of two pictures people would prefer for a prompt, by a CLIP that was trained on such choices.

PickScore (Kirstain et al. 2023, Pick-a-Pic, arXiv 2305.01569, section 4) and any other CLIPModel of the library
transformers, from a local folder as `save_pretrained` writes it. The score of a picture is exp(logit_scale) · cosine of
picture and prompt; people prefer a picture to another one of the same prompt with probability sigmoid(difference).
transformers is imported only here, and nothing is downloaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from t2i.errors import InputError, T2IError, UnavailableError
from t2i.score.recipe import NetworkInfo
from t2i.store.weights_files import find_weights, read_layouts, read_table, remembered_hash

LONGEST = 16  # how often the short side goes into the long one, at most: what lies beyond is cut off before the resize
LIMITS = {
    "num_hidden_layers": 256,
    "num_attention_heads": 1024,
    "hidden_size": 65_536,
    "intermediate_size": 262_144,
    "projection_dim": 65_536,
    "vocab_size": 4_194_304,
    "max_position_embeddings": 65_536,
    "image_size": 4096,
    "patch_size": 4096,
    "num_channels": 3,
}  # of a config: more than any CLIP has, and little enough that describing the network takes no time
IMAGE_FILE, TOKEN_FILES = "preprocessor_config.json", ("tokenizer.json", "vocab.json")


class PreferenceModel:
    """A preference model as an `Extractor`: unit vectors of pictures and prompts, and the scale of their cosine.

    Pictures are prepared by the folder's own image processor, and prompts are read by its tokenizer, up to the
    context. Raises InputError (code `bundle`) for a folder that is no such model, UnavailableError without the
    library transformers.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        files, variant = check_folder(folder)
        library = _library()
        try:
            config = library.CLIPConfig.from_pretrained(folder, local_files_only=True)
            _check_shapes(folder, library, config, files)
            self.net, self.tokenizer, self.processor = _load(folder, library, variant)
            self.net = self.net.float().eval().requires_grad_(False).to(device)
            self.device, self.side = device, int(config.vision_config.image_size)
            self.context = int(config.text_config.max_position_embeddings)
            self._check_parts(int(config.text_config.vocab_size))
        except (T2IError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # the library raises nearly anything
            why = str(error).strip().split("\n")[0][:200] or type(error).__name__
            raise _unusable(folder, why) from error
        hashes = [remembered_hash(path) for path in files]
        weights = hashes[0] if len(files) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()
        reads = hashlib.sha256(b"".join(_config_bytes(folder))).hexdigest()[:16]
        self.info = NetworkInfo("preference", weights, self.side, f"by the folder's own configs, sha256 {reads}")

    def prepare(self, image: Image.Image) -> Tensor:
        """An upright RGB image -> (3, S, S)."""
        short, (x, y) = LONGEST * min(image.size), image.size
        if max(image.size) > short:
            left, top = max(0, (x - short) // 2), max(0, (y - short) // 2)
            image = image.crop((left, top, min(x, left + short), min(y, top + short)))
        pixels: Tensor = self.processor(image, return_tensors="pt")["pixel_values"][0]
        return pixels

    @torch.inference_mode()
    def features(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D) float32 on the CPU."""
        seen = self.net.vision_model(pixel_values=pixels.to(self.device)).pooler_output
        return F.normalize(self.net.visual_projection(seen), dim=-1).float().cpu()

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """(B, D): one prompt at a time, so that its numbers do not depend on the others."""
        out = []
        for text in texts:
            tokens = self.tokenizer(text, truncation=True, max_length=self.context, return_tensors="pt")
            ids, mask = tokens["input_ids"].to(self.device), tokens["attention_mask"].to(self.device)
            out.append(self.net.text_projection(self.net.text_model(ids, attention_mask=mask).pooler_output))
        return F.normalize(torch.cat(out), dim=-1).float().cpu()

    def scale(self) -> float:
        return float(self.net.logit_scale.exp())

    def _check_parts(self, vocabulary: int) -> None:
        """Raise ValueError for parts that do not belong together, by trying them."""
        if len(self.tokenizer) > vocabulary:
            raise ValueError(f"its tokenizer has {len(self.tokenizer)} entries, and the network reads {vocabulary}")
        for name in ("size", "crop_size"):
            sides = dict(getattr(self.processor, name, None) or {}).values()
            if any(not isinstance(n, int) or not 1 <= n <= LIMITS["image_size"] for n in sides):
                raise ValueError(f"{IMAGE_FILE} has an impossible {name}")
        pixels = self.prepare(Image.new("RGB", (48, 40), (90, 120, 200)))
        if tuple(pixels.shape) != (3, self.side, self.side):
            shape = " x ".join(map(str, pixels.shape))
            raise ValueError(f"{IMAGE_FILE} makes pictures of {shape}, and the network reads {self.side} pixels")
        for what, found in (("pictures", self.features(pixels[None])), ("prompts", self.texts(["a cat"]))):
            if not bool(torch.isfinite(found).all()):
                raise ValueError(f"what it makes of {what} is not finite")
        if not 0 < self.scale() < 1e6:
            raise ValueError("its logit_scale is impossible")


def check_folder(folder: Path) -> tuple[list[Path], str]:
    """The weight files of a preference model, and the variant in their names.

    Raises InputError (code `bundle`) for a folder that is none, from its configs and headers alone.
    """
    if not folder.is_dir():
        raise _unusable(folder, "it is not a folder")
    config = read_table(folder / "config.json")
    if config.get("model_type") != "clip":
        raise _unusable(folder, "its config.json is not that of a CLIP")
    read_table(folder / IMAGE_FILE)
    if not any((folder / name).is_file() for name in TOKEN_FILES):
        raise _unusable(folder, f"it has no {TOKEN_FILES[0]}")
    _check_sizes(folder, config)
    files, variant = find_weights(folder)
    return [path for path in files if path.suffix == ".safetensors"], variant


def _check_sizes(folder: Path, config: Mapping[str, Any]) -> None:
    """Raise InputError for sizes that no CLIP has. Keys that are not there have the library's defaults."""
    for table in (config, config.get("text_config") or {}, config.get("vision_config") or {}):
        if not isinstance(table, Mapping):
            raise _unusable(folder, "its config.json is damaged")
        for name, most in LIMITS.items():
            value = table.get(name, 1)
            if type(value) is not int or not 1 <= value <= most:
                raise _unusable(folder, f"its config.json has an impossible {name}")


def _check_shapes(folder: Path, library: Any, config: Any, files: Sequence[Path]) -> None:
    """Raise InputError unless the weights are those of the config: else the library would fill in random ones."""
    stored = {name: shape for path in files for name, (_, shape) in read_layouts(path).items()}
    with torch.device("meta"):
        wanted = {name: tuple(tensor.shape) for name, tensor in library.CLIPModel(config).state_dict().items()}
    for name, shape in wanted.items():
        if stored.get(name) != shape:
            held = "is missing" if name not in stored else f"is {stored[name]}"
            raise _unusable(folder, f"its weights do not fit its config.json: {name} {held}, and should be {shape}")


def _load(folder: Path, library: Any, variant: str) -> tuple[Any, Any, Any]:
    """The network, the tokenizer and the image processor."""
    net = library.CLIPModel.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, variant=variant or None
    )
    tokenizer = library.CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    return net, tokenizer, library.CLIPImageProcessor.from_pretrained(folder, local_files_only=True)


def _config_bytes(folder: Path) -> list[bytes]:
    """What decides about a score besides the weights."""
    return [path.read_bytes() for path in sorted([*folder.glob("*.json"), *folder.glob("merges.txt")])]


def _unusable(folder: Path, why: str) -> InputError:
    hint = "Name the folder of a CLIPModel of transformers with its processor, as save_pretrained writes it."
    return InputError(f"{folder} cannot be used as a preference model: {why.rstrip('.')}.", hint, "bundle")


def _library() -> Any:
    try:
        import transformers
    except ImportError as error:
        hint = "pip install 't2i[preference]'"
        raise UnavailableError("transformers is not installed.", hint, "dependency") from error
    return transformers
