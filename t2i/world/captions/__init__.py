"""Captions: a scene graph in words, in English or Chinese, in a dense, a short or a telegraphic form.

A caption states only facts of the scene graph. The dense form states all of them: number, colour, size, relation,
position and place.
"""

from __future__ import annotations

from random import Random

from t2i.world.captions import phrases
from t2i.world.captions.chinese import ChineseWriter
from t2i.world.captions.english import EnglishWriter
from t2i.world.captions.writer import Form
from t2i.world.graph import Scene
from t2i.world.vocabulary import Lang


def caption(
    scene: Scene, rng: Random, lang: Lang, form: Form, *, say_style: float = 0.2, say_place: float = 1.0
) -> str:  # fmt: skip
    """One caption of the scene. Every draw comes from `rng`: the same generator state gives the same caption.

    form: "dense" states everything in the graph. "short" states the objects, their colours, their relation and the
        place, and may drop sizes and positions. "telegraphic" is a list of keywords.
    say_style: probability in [0, 1] that the caption names the style; half of it in the short form.
    say_place: probability in [0, 1] that it names the place. A scene without things always names it.
    """
    assert scene.place in phrases.PLACES, f"no words for the place {scene.place!r}"
    placed = rng.random() < say_place
    writer: EnglishWriter | ChineseWriter = (EnglishWriter if lang == "en" else ChineseWriter)(scene, rng, form, placed)
    if not scene.groups:
        text, nominal = writer.empty()
    else:
        text, nominal = writer.keywords() if form == "telegraphic" else writer.sentence()
    styles = phrases.STYLES.get(scene.style)
    if styles and rng.random() < say_style * (0.5 if form == "short" else 1.0):
        text = writer.with_style(text, nominal, styles[0 if lang == "en" else 1])
    if lang == "en" and form == "dense" and rng.random() < 0.1:
        text = text[0].upper() + text[1:] + "."
    return text
