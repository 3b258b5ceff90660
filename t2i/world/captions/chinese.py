"""Chinese captions: measure words, attributes, locatives, sentences.

Methods that return (text, nominal) say whether the text is a noun phrase. Only those take a style in front.
"""

from __future__ import annotations

from t2i.world.captions import phrases
from t2i.world.captions.writer import HAT, CaptionWriter
from t2i.world.graph import Group
from t2i.world.vocabulary import COLOURS, index


class ChineseWriter(CaptionWriter):
    """Writes Chinese captions."""

    def noun(self, group: Group, worn: bool = False) -> str:
        thing = self.thing(group)
        if worn and thing.key in phrases.HATS and self.rng.random() < HAT:
            return "帽子"
        if thing.synonyms_zh and self.use_synonym(group):
            return self.rng.choice(thing.synonyms_zh)
        return thing.zh

    def phrase(self, group: Group, worn: bool = False, tight: bool = False) -> str:
        """The noun with its attributes. tight: leave out the 的 after the colour."""
        noun = self.noun(group, worn)
        size = ""
        if group.size and self.sizes:
            plain = len(noun) <= 3 and noun[0] not in "大小老高"
            big = group.size == "large"
            size = ("大" if big else "小") if plain else ("很大的" if big else "很小的")
            tight = tight or (not plain and self.rng.random() < 0.5)
        colour = COLOURS[group.colour][0] if group.colour else ""
        if colour:
            short = colour[0] + noun
            taken = index("zh", "all").get(short, group.thing) != group.thing
            plain = len(noun) <= 2 and noun[0] not in "大小老" and colour[0] in "红黄绿蓝黑白灰"
            if plain and not size and not taken and self.rng.random() < 0.25:
                return short
            if size.endswith("的"):
                return size + colour + noun
            if not tight or (self.rng.random() < 0.3 and not worn):
                colour += "的"
        return colour + size + noun

    def number(self, group: Group) -> str:
        spelled = group.count < len(phrases.NUMBERS_ZH) and (group.count == 1 or self.rng.random() < 0.92)
        count = phrases.NUMBERS_ZH[group.count] if spelled else str(group.count)
        return count + self.thing(group).measure

    def np(self, group: Group, worn: bool = False, clause: str = "") -> str:
        """Number, measure word, relative clause (if given), attributes, noun."""
        tight = bool(clause) or self.rng.random() < 0.4
        return self.number(group) + clause + self.phrase(group, worn, tight)

    def where(self) -> str:
        return self.rng.choice(self.place.zh).format(self.shade())

    def shade(self) -> str:
        return COLOURS[self.scene.shade][0] if self.scene.shade else "纯色"

    def several(self, groups: list[Group]) -> str:
        parts = [self.np(group) for group in groups]
        return parts[0] if len(parts) == 1 else "、".join(parts[:-1]) + "和" + parts[-1]

    def attached(self, kind: str, a: Group, b: Group) -> str:
        """The object as a relative clause of the subject: "一只戴着礼帽的猫"."""
        worn = b.thing in phrases.HEADGEAR
        if kind == "wearing":
            verb = "穿着" if b.thing in phrases.DRESSED else "戴着"
            verb = self.rng.choice(("戴着", "戴着", "头戴")) if worn else verb
        else:
            verb = self.rng.choice(("拿着", "拿着", "手拿"))
        whole = b.count > 1 or self.rng.random() < 0.35
        thing = self.np(b, worn) if whole else self.phrase(b, worn, tight=True)
        return self.np(a, clause=f"{verb}{thing}的")

    def clause(self, kind: str, a: Group, b: Group) -> str:
        """A full clause for the related pair: "一只猫在一座房子的左边"."""
        rng, pick = self.rng, self.rng.random()
        if kind == "wearing":
            worn = b.thing in phrases.HEADGEAR
            if worn and pick < 0.35:
                return f"{self.np(a)}头上戴着{self.np(b, True)}"
            return f"{self.np(a)}{'穿' if b.thing in phrases.DRESSED else '戴'}着{self.np(b, worn)}"
        if kind == "holding":
            return f"{self.np(a)}{rng.choice(('拿着', '手里拿着'))}{self.np(b)}"
        if kind == "next" and pick < 0.2:
            return f"{self.np(a)}和{self.np(b)}在一起"
        if kind in ("left", "right") and pick < 0.25:
            first, second = (a, b) if kind == "left" else (b, a)
            return f"左边是{self.np(first)}，右边是{self.np(second)}"
        if kind == "on":
            side = rng.choice(phrases.RELATIONS_ZH[kind])
            if pick < 0.3:
                return f"{self.np(b)}{side}有{self.np(a)}"
            sits = self.thing(a).category in ("animal", "person") and rng.random() < 0.5
            return f"{self.np(a)}{'坐' if sits else ''}在{self.np(b)}{side}"
        if rng.random() < 0.3:
            kind, a, b = phrases.INVERSE[kind], b, a
        side = rng.choice(phrases.RELATIONS_ZH[kind])
        if rng.random() < 0.3:
            return f"{self.np(b)}{side}有{self.np(a)}"
        return f"{self.np(a)}在{self.np(b)}{side}"

    def front(self, where: str, text: str = "在") -> str:
        """The place at the start of a sentence, before a comma. 在 is added only if `text` has none."""
        if self.place.time_zh and self.rng.random() < 0.5:
            return self.rng.choice(self.place.time_zh)
        return ("在" if "在" not in text and self.rng.random() < 0.5 else "") + where

    def backdrop(self) -> str:
        """The place as a clause at the end: "，背景是沙漠"."""
        if self.scene.place == "plain":
            return f"，{self.shade()}背景"
        return "，" + (self.place.after_zh or "背景是" + self.place.tag_zh[0])

    def empty(self) -> tuple[str, bool]:
        """A scene without things: "空荡荡的海滩"."""
        noun, roll = self.rng.choice(phrases.EMPTY[self.scene.place][1]).format(self.shade()), self.rng.random()
        if self.form == "telegraphic":
            return (f"空{'' if len(noun) == 2 else '的'}{noun}" if roll < 0.4 else f"空荡荡 {noun}"), False
        if roll < 0.45:
            return f"空荡荡的{noun}", True
        if roll < 0.6:
            return f"空无一物的{noun}", True
        if roll < 0.7:
            return f"只有{noun}", False
        where = self.where()
        if roll < 0.85:
            return f"{where}{self.rng.choice(('什么也没有', '什么都没有'))}", False
        return f"{where}空荡荡的", False

    def sentence(self) -> tuple[str, bool]:
        """The dense and the short form."""
        rng, where = self.rng, self.where()
        relation, a, b, rest = self.split()
        attach = relation is not None and relation.kind in ("wearing", "holding") and rng.random() < 0.75
        if relation and b and not attach:
            text = self.clause(relation.kind, a, b)
            if rest:
                text += "，还有" + self.several(rest)
            if not self.placed:
                return text, False
            first = rng.random() < 0.6
            return (f"{self.front(where, text)}，{text}" if first else text + self.backdrop()), False
        verb = None
        if relation and b:
            core = self.attached(relation.kind, a, b) + ("和" + self.several(rest) if rest else "")
        else:
            core, verb = self.several(self.shuffled()), self.verb()
        if self.position:
            at, roll = rng.choice(phrases.POSITIONS_ZH[self.position]), rng.random()
            if not self.placed:
                return (f"{core}在{at}" if roll < 0.5 else f"{at}有{core}"), False
            if roll < 0.35:
                return f"{self.front(where, core)}，{at}有{core}", False
            return (f"{core}在{at}{self.backdrop()}" if roll < 0.7 else f"{at}是{where}的{core}"), False
        if not self.placed:
            return (f"一张画着{core}的图片", False) if rng.random() < 0.1 else (core, True)
        if verb:
            return (f"{core}{verb[1]}在{where}" if verb[2] else f"{core}在{where}{verb[1]}"), False
        roll = rng.random()
        if roll < 0.3:
            time = self.place.time_zh and rng.random() < 0.4
            return f"{rng.choice(self.place.time_zh) if time else where}有{core}", False
        if roll < 0.62:
            return f"{core}在{where}", False
        if roll < 0.82:
            return f"{where}的{core}", True
        if roll < 0.92 or not self.place.time_zh:
            return core + self.backdrop(), True
        return f"{rng.choice(self.place.time_zh)}的{core}", True

    def keywords(self) -> tuple[str, bool]:
        """The telegraphic form."""
        rng = self.rng
        relation, a, b, rest = self.split()
        groups, parts = [a, *([b] if b else []), *rest], []
        if relation and b and relation.kind != "next" and rng.random() < 0.5:
            first, second = self.bare(a), self.bare(b, b.thing in phrases.HEADGEAR)
            if relation.kind in ("wearing", "holding"):
                verb = "拿" if relation.kind == "holding" else "穿" if b.thing in phrases.DRESSED else "戴"
                parts.append(f"{first}{verb}{second}")
            else:
                parts.append(f"{first}在{second}{phrases.RELATIONS_ZH[relation.kind][-1].lstrip('的')}")
            groups = rest
        parts += [self.bare(group) for group in groups]
        if self.placed:
            parts.append(rng.choice(self.place.tag_zh).format(self.shade()))
        return rng.choice((" ", " ", "，")).join(parts), False

    def bare(self, group: Group, worn: bool = False) -> str:
        return self.phrase(group, worn, tight=True) if group.count == 1 else self.np(group, worn)

    def with_style(self, text: str, nominal: bool, style: tuple[str, ...]) -> str:
        if nominal and self.rng.random() < 0.3:
            return f"{style[0]}：{text}"
        return f"{text}{' ' if ' ' in text else '，'}{self.rng.choice(style)}"
