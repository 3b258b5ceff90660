"""Zero-shot classification: which of several texts a picture is closest to (CLIP: Radford 2021, section 3.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from t2i.errors import UnavailableError, UsageError
from t2i.jobs.reporter import shorten
from t2i.text.words import KnownWords

if TYPE_CHECKING:
    from PIL.Image import Image

    from t2i.score.extractors import Extractor


def read_labels(text: str) -> list[str]:
    """The labels of `--labels a,b`. Raises UsageError for fewer than two, or one that comes twice."""
    labels = [word.strip() for word in text.split(",") if word.strip()]
    if not labels:
        raise UsageError("--labels names nothing.", "Write --labels a,b.")
    if len(labels) < 2 or len(set(labels)) < len(labels):
        raise UsageError(f"--labels {text!r} leaves nothing to choose.", "Name two or more, each once.")
    return labels


def label_warnings(extractor: Extractor, labels: Sequence[str]) -> list[str]:
    """A sentence about each word of the labels that the extractor's CLIP has never read; none where that is not
    known."""
    from t2i.score.extractors import ClipExtractor  # imports torch

    words = extractor.words if isinstance(extractor, ClipExtractor) else KnownWords(frozenset())
    unknown = dict.fromkeys(word for label in labels for word in words.unknown(label))
    return [f"--labels: the model has never read {shorten(word)!r}" for word in unknown]


def label_vectors(extractor: Extractor, labels: Sequence[str]) -> NDArray[np.float64]:
    """The unit vectors of L labels (L, D). Raises UnavailableError for an extractor that reads no text."""
    texts = extractor.texts(list(labels))
    if texts is None:
        raise UnavailableError(f"{extractor.info.name} reads no text.", "Choose --extractor clip.", "metric")
    return texts.double().numpy()


def classify(extractor: Extractor, features: NDArray[np.float64], vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """The probability of each label for each picture (n, L): a softmax over the scaled cosines. It is its share among
    these labels, and says nothing of whether any of them fits.

    features (n, D): unit vectors of pictures. vectors (L, D): see `label_vectors`.
    """
    logits = extractor.scale() * features @ vectors.T
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return probabilities


def label_pictures(
    load: Callable[[], Extractor], paths: Sequence[Path], labels: Sequence[str], read: Callable[[Path], Image | None]
) -> Iterator[tuple[Path, dict[str, float]]]:
    """(file, label -> probability) of each picture. load: called when there is a picture to classify. read: a file's
    upright RGB image, or None to leave it out."""
    extractor: Extractor | None = None
    for path in paths:
        image = read(path)
        if image is not None:
            if extractor is None:
                extractor = load()
                vectors = label_vectors(extractor, labels)
            features = extractor.features(extractor.prepare(image)[None]).double().numpy()
            (row,) = classify(extractor, features, vectors).tolist()
            yield path, dict(zip(labels, row, strict=True))
