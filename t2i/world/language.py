"""A scene graph in words, English or Chinese, in three forms.

`caption` says only what the picture holds: nothing is invented, and in the dense form nothing that the
scene graph calls said (number, colour, size, relation, position, place) is left out.
"""

from __future__ import annotations

from random import Random

from t2i.world import phrases as P
from t2i.world.captions import Form
from t2i.world.chinese import Chinese
from t2i.world.english import English, article
from t2i.world.graph import Scene
from t2i.world.phrases import PLACES_WORDS, PlaceWords
from t2i.world.vocabulary import Lang

__all__ = ["PLACES_WORDS", "Form", "Lang", "PlaceWords", "article", "caption"]


def caption(
    scene: Scene, rng: Random, lang: Lang, form: Form, *, say_style: float = 0.2, say_place: float = 1.0
) -> str:  # fmt: skip
    """One caption of the scene.

    dense says everything in the graph; short says the objects, their colours and relation and the place, and
    may drop sizes and positions; telegraphic strings keywords together. `say_style` is the share of captions
    that name the style, halved in the short form; the telegraphic form follows it too. `say_place` is the share
    that names the place: who asks for "a red apple" has said nothing of where. An empty place is
    always named.
    Every draw comes from `rng`: the same generator state gives the same caption.
    """
    assert scene.place in PLACES_WORDS, f"nothing to say about {scene.place!r}"
    placed = rng.random() < say_place
    words: English | Chinese = (English if lang == "en" else Chinese)(scene, rng, form, placed)
    if not scene.groups:  # the place is then all that there is to say
        text, nominal = words.nothing()
    else:
        text, nominal = words.keywords() if form == "telegraphic" else words.sentence()
    styles = P.STYLES.get(scene.style)
    if styles and rng.random() < say_style * (0.5 if form == "short" else 1.0):
        text = words.with_style(text, nominal, styles[0 if lang == "en" else 1])
    if lang == "en" and form == "dense" and rng.random() < 0.1:
        text = text[0].upper() + text[1:] + "."
    return text
