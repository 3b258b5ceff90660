"""English captions: noun phrases, relations, sentences.

Methods that return (text, nominal) say whether the text is a noun phrase. Only those take "a 3D render of …".
"""

from __future__ import annotations

from t2i.world.captions import phrases
from t2i.world.captions.writer import HAT, CaptionWriter
from t2i.world.graph import Group
from t2i.world.vocabulary import plural_of


def article(phrase: str) -> str:
    """The phrase with "a" or "an" before it, by sound: "an apple", "a unicorn", "an hourglass", "a UFO"."""
    low = phrase.lower()
    vowel = low[0] in "aeiou" and not low.startswith(("uni", "ufo", "eu", "one ", "use"))
    return ("an " if vowel or low.startswith(("hour", "honest")) else "a ") + phrase


class EnglishWriter(CaptionWriter):
    """Writes English captions."""

    def noun(self, group: Group, worn: bool = False) -> str:
        thing, many = self.thing(group), group.count != 1
        pair = (thing.en, thing.plural)
        if worn and thing.key in phrases.HATS and self.rng.random() < HAT:
            pair = ("hat", "hats")
        elif thing.synonyms_en and self.use_synonym(group):
            pair = plural_of(self.rng.choice(thing.synonyms_en))
        return pair[many]

    def phrase(self, group: Group, worn: bool = False) -> str:
        """The noun with its adjectives, without article or number."""
        colour = "gray" if group.colour == "grey" and self.rng.random() < 0.4 else group.colour
        size = self.rng.choice(phrases.SIZES_EN[group.size]) if group.size and self.sizes else None
        return " ".join(part for part in (size, colour, self.noun(group, worn)) if part)

    def np(self, group: Group, worn: bool = False) -> str:
        """The noun phrase with its article or number."""
        if group.count == 1:
            return article(self.phrase(group, worn))
        spelled = group.count < len(phrases.NUMBERS_EN) and self.rng.random() < 0.9
        return f"{phrases.NUMBERS_EN[group.count] if spelled else group.count} {self.phrase(group, worn)}"

    def where(self) -> str:
        return self.shaded(self.rng.choice(self.place.en))

    def shaded(self, phrase: str) -> str:
        """The phrase with {} replaced by the colour of the background."""
        shade = self.scene.shade or "plain"
        return phrase.replace("a {}", article(shade)).format(shade)

    def several(self, groups: list[Group]) -> str:
        parts = [self.np(group) for group in groups]
        return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]

    def relation(self, kind: str, a: Group, b: Group) -> str:
        """A noun phrase for the related pair: "a cat next to a house"."""
        rng, pick = self.rng, self.rng.random()
        if kind == "wearing":
            on_head = b.thing in phrases.HEADGEAR
            if pick < 0.12:
                return f"{self.np(b, on_head)} on {self.np(a)}"
            if pick < 0.25 and on_head and a.count == 1:
                head = "on" if self.thing(a).category == "person" else "on its head"
                return f"{self.np(a)} with {self.np(b, True)} {head}"
            how = rng.choice(("wearing", "wearing", "in")) if on_head else "wearing"
            return f"{self.np(a)} {how} {self.np(b, on_head)}"
        if kind == "holding":
            return f"{self.np(a)} {rng.choice(('holding', 'holding', 'with'))} {self.np(b)}"
        if kind == "next" and pick < 0.25:
            return f"{self.several([a, b])} {rng.choice(('side by side', 'next to each other'))}"
        if kind in ("left", "right") and pick < 0.2:
            first, second = (a, b) if kind == "left" else (b, a)
            return f"{self.np(first)} on the left and {self.np(second)} on the right"
        if kind == "on":
            if pick < 0.15:
                return f"{self.np(b)} with {self.np(a)} on top"
            sits = "sitting " if pick < 0.4 and self.thing(a).category in ("animal", "person") else ""
            return f"{self.np(a)} {sits}{rng.choice(phrases.RELATIONS_EN[kind])} {self.np(b)}"
        if rng.random() < 0.3:
            kind, a, b = phrases.INVERSE[kind], b, a
        return f"{self.np(a)} {rng.choice(phrases.RELATIONS_EN[kind])} {self.np(b)}"

    def empty(self) -> tuple[str, bool]:
        """A scene without things: "an empty beach"."""
        noun, roll = self.shaded(self.rng.choice(phrases.EMPTY[self.scene.place][0])), self.rng.random()
        if self.form == "telegraphic":
            return (f"empty {noun}" if roll < 0.6 else f"{noun}, empty"), False
        if roll < 0.5:
            return f"an empty {noun}", True
        if roll < 0.64:
            return f"a picture of an empty {noun}", False
        if roll < 0.76:
            return f"just {article(noun)}", False
        if roll < 0.88:
            return f"{article(noun)} with nothing in it", True
        where = self.where()
        where = self.shaded(self.place.en[0]) if where.startswith("with ") else where
        return (f"there is nothing {where}" if roll < 0.94 else f"nothing {where}"), False

    def sentence(self) -> tuple[str, bool]:
        """The dense and the short form."""
        rng, where = self.rng, self.where()
        relation, a, b, rest = self.split()
        total = sum(group.count for group in self.scene.groups)
        if relation and b:
            core, verb = self.relation(relation.kind, a, b), None
            if rest:
                core += " and " + self.several(rest)
            be = "is" if a.count == 1 or core.endswith("on top") else "are"
        else:
            groups = self.shuffled()
            core, verb = self.several(groups), self.verb()
            be = "is" if groups[0].count == 1 else "are"
        at = rng.choice(phrases.POSITIONS_EN[self.position]) if self.position else ""
        roll = rng.random()
        if not self.placed:
            if at:
                return (f"{at}, {core}" if roll < 0.25 else f"{core} {at}"), True
            core = f"{core} {verb[0]}" if verb else core
            if roll < 0.1 and self.form == "dense":
                return f"there {be} {core}", False
            return (f"a picture of {core}", False) if roll < 0.2 else (core, True)
        if at:
            if roll < 0.25:
                return f"{at}, {core} {where}", True
            return (f"{core} {where}, {at}" if roll < 0.65 else f"{core} {at}, {where}"), True
        if verb:
            where = self.place.en[0] if where.startswith("with ") else where  # "playing with mountains"
            if roll < 0.15:
                return f"{core} {'is' if total == 1 else 'are'} {verb[0]} {where}", False
            return f"{core} {verb[0]} {where}", True
        if roll < 0.1 and self.form == "dense":
            return f"there {be} {core} {where}", False
        if roll < 0.18 and self.place.front_en:
            return f"{where}, {core}", True
        if roll < 0.26:
            return f"a picture of {core} {where}", False
        return (f"{core}, {where}" if relation and b and roll < 0.4 else f"{core} {where}"), True

    def keywords(self) -> tuple[str, bool]:
        """The telegraphic form."""
        parts = []
        relation, a, b, rest = self.split()
        groups = [a, *([b] if b else []), *rest]
        if relation and b and self.rng.random() < 0.5 and relation.kind not in ("next",):
            first, second = self.bare(a), self.bare(b, b.thing in phrases.HEADGEAR)
            parts.append(f"{first} {phrases.RELATIONS_EN.get(relation.kind, (relation.kind,))[-1]} {second}")
            groups = rest
        parts += [self.bare(group) for group in groups]
        if self.placed:
            parts.append(self.shaded(self.rng.choice(self.place.tag_en)))
        return (", " if self.rng.random() < 0.75 else " ").join(parts), False

    def bare(self, group: Group, worn: bool = False) -> str:
        return self.phrase(group, worn) if group.count == 1 else self.np(group, worn)

    def with_style(self, text: str, nominal: bool, style: tuple[str, ...]) -> str:
        if nominal and text.startswith(("a ", "an ")) and self.rng.random() < 0.5:
            return f"{article(style[0])} of {text}"
        return f"{text}, {self.rng.choice(style)}"
