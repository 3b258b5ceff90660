"""What a text asks for: things in their colours, one or several of each, and the place; and its words that say more.
Imports no torch.

Words that say what is not there, and numbers, are found too: who looks for things refuses them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

from t2i.store.registry import resolve_judge
from t2i.world.captions.english import article
from t2i.world.captions.phrases import PLACES
from t2i.world.judge_config import JudgeConfig, read_config
from t2i.world.reading import OWN, Detection, Reading
from t2i.world.vocabulary import COLOURS, index, plural_of, things

SPELLINGS = {word: key for key, (chinese, _) in COLOURS.items() for word in (key, chinese[0])} | {"gray": "grey"}
"""Colour words; of a Chinese one the first character, which is enough."""
NEGATION = re.compile(
    r"\b(?:no|non)\b(?!-)|\b(?:not|never|neither|nor|none|nothing|cannot|without|except)\b|n['’]t\b"
    r"|(?<![淹沉埋出])没有?|[未不]见|并非|除了|无任何"
    rf"|不(?:是|要|含|带|在|存在|包[括含]|[{''.join(chinese[0] for chinese, _ in COLOURS.values())}])"
    r"|[无非除不](?=\s)",
    re.ASCII,
)
"""Words that turn a text into its opposite, where names of things are left out. 无 and 不 alone do so before a name:
无猫, but not in 无线耳机 (wireless headphones) and 不锈钢锅 (a stainless steel pot)."""
COUNT = re.compile(
    r"(?<!\d)(?:[2-9]|[1-9]\d+)(?!\d)|[两二三四五六七八九十]"
    r"|\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|dozen|several|many)\b",
    re.ASCII,
)
"""Numbers above one."""
WORD = re.compile(r"[a-z][a-z'-]*|[\u3400-\u9fff]")
PARTS = re.compile(r",|，|、|\band\b|和|与")
FILLERS = frozenset(
    ["a", "an", "the", "of", "is", "are", "it", "its", "there", "this", "that", "these", "those", "some", "any", "one"]
    + ["picture", "photo", "image"]
)
"""Words that ask for nothing."""
FILLERS_ZH = frozenset("的一个在有是这那些了着图片") | {thing.measure for thing in things().values()} | {"色"}


@dataclass(frozen=True)
class NamedThing:
    """A thing that a text names: its key, the colour word before it, or None, and whether it is named in the plural."""

    thing: str
    colour: str | None = None
    several: bool = False

    @property
    def name(self) -> str:
        """In words: "red cat"."""
        return " ".join(filter(None, [self.colour, things()[self.thing].en]))

    @property
    def words(self) -> str:
        """With its number: "a red cat", "two or more red cats"."""
        if not self.several:
            return article(self.name)
        return " ".join(filter(None, ["two or more", self.colour, things()[self.thing].plural]))

    def fits(self, seen: Detection) -> bool:
        """Whether it is this thing, in this colour where one is named."""
        colour = things()[seen.thing].colour if seen.colour == OWN else seen.colour
        return seen.thing == self.thing and self.colour in (None, colour)

    def lack(self, seen: Sequence[Detection]) -> str:
        """What is missing among the things that are seen: "no red cat", "only one red cat"; "" if nothing is."""
        count = sum(map(self.fits, seen))
        if count == 0:
            return f"no {self.name}"
        return f"only one {self.name}" if self.several and count == 1 else ""


@dataclass(frozen=True)
class NamedPlace:
    """A place that a text names. words: as it says, in English; places: keys of those that are called so; shade: of a
    plain one."""

    words: str
    places: frozenset[str]
    shade: str | None = None

    def lack(self, seen: Reading) -> str:
        """What is missing in a picture: "not in the snow (seen: beach)"; "" if nothing is."""
        if seen.place in self.places and self.shade in (None, seen.shade):
            return ""
        return f"not {self.words} (seen: {PLACES[seen.place].tag_en[0].format(seen.shade or '').strip()})"


@dataclass(frozen=True)
class Asked:
    """What a text asks for. more: what else it says, which nothing heeds."""

    named: tuple[NamedThing, ...]
    place: NamedPlace | None = None
    more: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """ "two or more cats and a dog, in the snow"."""
        said = listed([named.words for named in self.named])
        return f"{said}, {self.place.words}" if self.place else said

    @property
    def is_plain(self) -> bool:
        """Whether it asks for things alone, one of each."""
        return self == self.things_alone()

    def things_alone(self) -> Asked:
        """The same, without number and place."""
        return replace(self, named=tuple(replace(named, several=False) for named in self.named), place=None)


def shipped_knowledge() -> JudgeConfig:
    """What the judge that comes with the models knows; loads no network. Raises UnavailableError where it is not
    installed."""
    return read_config(resolve_judge())[0]


def asked_by(text: str, known: JudgeConfig) -> Asked:
    """What a text asks for, of what a judge knows: of each part that "and" or a comma separates the first thing.

    "the red car and the dogs in the snow" names a car, if it is red, two dogs or more, and the snow. Nothing is named:
    no thing is known.
    """
    place, rest = _take_place(text.lower(), known)
    named, more = [], []
    for part in PARTS.split(rest):
        words, keys = WORD.findall(part), set(known.things)
        first, used = first_named(words, keys)
        if first is not None:
            named.append(first)
        left = [w for i, w in enumerate(words) if i not in used and w not in FILLERS and w not in FILLERS_ZH]
        if left:
            more.append(re.sub(r"(?<=[\u3400-\u9fff]) (?=[\u3400-\u9fff])", "", " ".join(left)))
    return Asked(tuple(dict.fromkeys(named)), place, tuple(more))


def names_place(text: str) -> bool:
    """Whether a text says where something is."""
    return any(pattern.search(text.lower()) for pattern, _ in _places())


def first_named(words: Sequence[str], known: set[str]) -> tuple[NamedThing | None, set[int]]:
    """The first thing that words name, with the colour word before it, and which words say so. "orange" before another
    thing is a colour."""
    colour, used = None, set[int]()
    for i, word in enumerate(words):
        found = name_at(words, i, known)
        if found is not None and not (word in SPELLINGS and name_at(words, i + 1, known)):
            key, end = found
            return NamedThing(key, colour, " ".join(words[i:end]) in _plurals()), {*used, *range(i, end)}
        if word in SPELLINGS:
            colour, used = SPELLINGS[word], {i}
    return None, set()


def name_at(words: Sequence[str], i: int, known: set[str]) -> tuple[str, int] | None:
    """The key of the thing whose name, the longest that fits, begins at word i, and where it ends; Chinese words are
    single characters."""
    english, chinese = index("en"), index("zh")
    for end in range(len(words), i, -1):
        key = english.get(" ".join(words[i:end])) or chinese.get("".join(words[i:end]))
        if key is not None and key in known:
            return key, end
    return None


def english_names(keys: Iterable[str]) -> list[str]:
    """The names of things in English, by their keys."""
    return [things()[key].en for key in keys]


def negation(text: str) -> str | None:
    """The first word by which a text says what is not there, "no" of "no cat"; None without one."""
    return _first(NEGATION, text)


def number(text: str) -> str | None:
    """The first number above one in a text, "two" of "two cats"; None without one."""
    return _first(COUNT, text)


def listed(words: Iterable[str]) -> str:
    """a, b and c."""
    every = list(words)
    return " and ".join(filter(None, [", ".join(every[:-1]), *every[-1:]]))


def _first(pattern: re.Pattern[str], text: str) -> str | None:
    """The first match outside of the names of things: 三明治 is a sandwich, and no number."""
    found = pattern.search(_every_name().sub(" ", text.lower()))
    return found[0] if found else None


@cache
def _every_name() -> re.Pattern[str]:
    """Any name of a thing, in either language; the longest that fits."""
    names = sorted({*index("en", "all"), *index("zh", "all")}, key=len, reverse=True)
    return re.compile("|".join(rf"\b{re.escape(n)}\b" if n.isascii() else re.escape(n) for n in names), re.ASCII)


@cache
def _plurals() -> frozenset[str]:
    """Names of things that are plurals alone: "cats", but not "sheep"."""
    pairs = [(thing.en, thing.plural) for thing in things().values()]
    pairs += [plural_of(synonym) for thing in things().values() for synonym in thing.synonyms_en]
    return frozenset(many.lower() for _, many in pairs) - {one.lower() for one, _ in pairs}


def _take_place(text: str, known: JudgeConfig) -> tuple[NamedPlace | None, str]:
    """The place of a text, and the text without it."""
    found = max(
        ((match, places) for pattern, places in _places() for match in pattern.finditer(text)),
        key=lambda pair: len(pair[0][0]),
        default=None,
    )
    if found is None:
        return None, text
    match, places = found
    said = match.groupdict().get("shade")
    shade = said and (SPELLINGS.get(said) or SPELLINGS.get(said[0], said))
    if not places & set(known.places) or (shade and shade not in known.shades):
        return None, text  # of another, the words are told as not heeded
    words = match[0] if match[0].isascii() else PLACES[min(places)].en[0].format(shade)
    return NamedPlace(words, places, shade), text[: match.start()] + " " + text[match.end() :]


@cache
def _places() -> list[tuple[re.Pattern[str], frozenset[str]]]:
    """What says where something is, "in the snow", with or without an article -> the keys of these places."""
    forms: dict[str, set[str]] = {}
    for key, words in PLACES.items():
        for form in _forms(words.en, words.zh + words.time_zh):
            forms.setdefault(form, set()).add(key)
    return [(re.compile(form, re.ASCII), frozenset(keys)) for form, keys in forms.items()]


def _forms(english: Sequence[str], chinese: Sequence[str]) -> Iterator[str]:
    """Patterns of place words; "{}" is the colour of a plain background."""
    for phrase in english:
        words = [word for word in phrase.split() if word not in ("a", "an", "the")]
        said = r"\s+(?:(?:a|an|the)\s+)?".join("(?P<shade>[a-z]+)" if word == "{}" else word for word in words)
        yield rf"\b{said}\b"
    for phrase in chinese:
        yield phrase.replace("{}", "(?P<shade>[\u3400-\u9fff]色)")
