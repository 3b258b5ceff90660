"""Word tables for the captions: places, styles, relations, numbers, verbs.

Chinese locatives are stored without 在. One entry ("雪地里") then serves "雪地里有一只猫", "一只猫在雪地里" and
"雪地里的一只猫".
"""

from __future__ import annotations

from dataclasses import dataclass

from t2i.world.graph import Thing

Verb = tuple[str, str, bool]
"""(English gerund, Chinese verb, whether the Chinese verb precedes 在): 站在雪地里 is True, 在雪地里玩耍 is False."""


@dataclass(frozen=True, slots=True)
class PlaceWords:
    """The words for one place."""

    en: tuple[str, ...]  # prepositional phrases: "in the snow"
    zh: tuple[str, ...]  # locatives, used after 在 or 站在 and before 有: "雪地里"
    tag_en: tuple[str, ...]  # bare nouns for the telegraphic form: "snow"
    tag_zh: tuple[str, ...]
    time_zh: tuple[str, ...] = ()  # adverbs of time, only at the start of a sentence: "夜里"
    after_zh: str = ""  # clause after a comma; "" stands for "背景是" + tag_zh[0]
    front_en: bool = True  # whether `en` may open a sentence: "in the snow, a cat"


PLACES: dict[str, PlaceWords] = {
    "snow": PlaceWords(
        ("in the snow", "on a snowy field", "in a snowy landscape", "on the snow"),
        ("雪地里", "雪地上", "雪中", "雪地里"), ("snow", "snowy field"), ("雪地", "雪"),
    ),
    "beach": PlaceWords(
        ("at the beach", "on the beach", "on a sandy beach", "by the sea"),
        ("海滩上", "沙滩上", "海边"), ("beach", "sandy beach"), ("海滩", "沙滩", "海边"),
    ),
    "forest": PlaceWords(
        ("in the forest", "in a forest", "in the woods"),
        ("森林里", "森林中", "树林里"), ("forest", "woods"), ("森林", "树林"),
    ),
    "desert": PlaceWords(
        ("in the desert", "in a desert", "in a sandy desert"),
        ("沙漠里", "沙漠中", "荒漠里"), ("desert",), ("沙漠",),
    ),
    "night": PlaceWords(
        ("at night", "at night", "under the night sky", "on a dark night"),
        ("夜色中", "夜空下", "黑夜里"), ("night", "dark night"), ("夜晚", "黑夜", "夜里"),
        ("夜里", "夜晚", "晚上"),
        "背景是夜空",
    ),
    "rain": PlaceWords(
        ("in the rain", "in the rain", "on a rainy day", "in rainy weather"),
        ("雨中", "雨里"), ("rain", "rainy day"), ("雨", "下雨", "雨天"), ("下雨天", "雨天"),
        "天下着雨",
    ),
    "underwater": PlaceWords(
        ("under water", "underwater", "under the sea", "deep under the sea"),
        ("水下", "海底", "海水里"), ("underwater", "under the sea"), ("水下", "海底"),
        after_zh="背景是海底",
    ),
    "space": PlaceWords(
        ("in space", "in outer space"),
        ("太空中", "太空里", "宇宙中"), ("space", "outer space"), ("太空", "宇宙"),
    ),
    "city": PlaceWords(
        ("in the city", "in a city", "in town", "in front of a city skyline"),
        ("城市里", "城市中", "城里"), ("city", "city skyline"), ("城市", "都市"),
    ),
    "room": PlaceWords(
        ("in a room", "in the room", "inside a room", "indoors"),
        ("房间里", "房间里", "室内"), ("room", "indoors"), ("房间", "室内"),
    ),
    "sunset": PlaceWords(
        ("at sunset", "at sunset", "in the sunset", "in the evening light"),
        ("夕阳下", "晚霞中", "夕阳里"), ("sunset", "evening"), ("日落", "夕阳", "黄昏"),
        ("日落时", "傍晚", "黄昏时"),
        "背景是夕阳",
    ),
    "mountains": PlaceWords(
        ("in the mountains", "in front of the mountains", "with mountains in the background"),
        ("山里", "群山中", "群山前"), ("mountains",), ("群山", "山里"), front_en=False,
    ),
    "field": PlaceWords(
        ("in a field", "in a green field", "in a meadow", "on the grass"),
        ("草地上", "田野里", "田野上", "草原上"), ("field", "meadow", "grass"), ("草地", "田野"),
    ),
    "river": PlaceWords(
        ("by the river", "by a river", "beside a river", "at the river"),
        ("河边", "小河边", "河岸边"), ("river",), ("小河", "河边"),
    ),
    "sky": PlaceWords(
        ("in the sky", "in the sky", "up in the sky", "in the blue sky"),
        ("天空中", "天上", "蓝天上", "空中"), ("sky", "blue sky"), ("天空", "蓝天"),
    ),
    "autumn": PlaceWords(
        ("in autumn", "on an autumn day", "in the fall", "in an autumn landscape"),
        ("秋色中", "秋天里", "秋日里"), ("autumn", "fall"), ("秋天", "秋色"), ("秋天", "秋日"),
        "背景是秋天的景色",
    ),
    "jungle": PlaceWords(
        ("in the jungle", "in a jungle", "in the rainforest"),
        ("丛林里", "丛林中", "热带雨林里"), ("jungle", "rainforest"), ("丛林", "热带雨林"),
    ),
    "road": PlaceWords(
        ("on the road", "on a road", "on the street"),
        ("路上", "马路上", "公路上"), ("road", "street"), ("马路", "公路"),
    ),
    "stage": PlaceWords(
        ("on a stage", "on stage", "on the stage"),
        ("舞台上", "舞台上", "台上"), ("stage",), ("舞台",),
    ),
    "volcano": PlaceWords(
        ("near a volcano", "in front of a volcano", "by a volcano"),
        ("火山前", "火山旁", "火山脚下"), ("volcano",), ("火山",),
    ),
    "garden": PlaceWords(
        ("in a garden", "in the garden", "in a garden"),
        ("花园里", "花园中", "园子里"), ("garden",), ("花园",),
    ),
    "plain": PlaceWords(
        ("on a {} background", "on a {} background", "against a {} background", "in front of a {} wall"),
        ("{}背景上", "{}的背景上", "{}背景前"), ("{} background",), ("{}背景",), front_en=False,
    ),
}  # fmt: skip
"""Words by place. In `plain`, {} is replaced by the colour of the background."""

EMPTY: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "snow": (("snowy field", "snowy field", "snowy landscape"), ("雪地",)),
    "beach": (("beach", "beach", "sandy beach"), ("海滩", "沙滩")),
    "forest": (("forest",), ("森林", "树林")),
    "desert": (("desert", "sandy desert"), ("沙漠", "荒漠")),
    "night": (("night sky", "night landscape"), ("夜空", "夜景")),
    "rain": (("rainy landscape",), ("雨景",)),
    "underwater": (("underwater landscape", "sea floor"), ("海底",)),
    "space": (("part of outer space", "part of space"), ("太空", "宇宙")),
    "city": (("city", "city skyline"), ("城市",)),
    "room": (("room",), ("房间",)),
    "sunset": (("sunset landscape", "sunset"), ("日落景色", "夕阳景色")),
    "mountains": (("mountain landscape",), ("群山", "山景")),
    "field": (("field", "green field", "meadow"), ("草地", "田野", "草原")),
    "river": (("river bank", "river landscape"), ("河岸", "河边")),
    "sky": (("sky", "blue sky"), ("天空", "蓝天")),
    "autumn": (("autumn landscape",), ("秋景", "秋天的景色")),
    "jungle": (("jungle", "rainforest"), ("丛林", "热带雨林")),
    "road": (("road", "street"), ("马路", "公路")),
    "stage": (("stage",), ("舞台",)),
    "volcano": (("volcanic landscape",), ("火山景色",)),
    "garden": (("garden",), ("花园", "园子")),
    "plain": (("{} background", "{} background", "{} wall"), ("{}背景",)),
}
"""(English, Chinese) nouns by place, for a scene without things: "an empty …", "空荡荡的…"."""

IN_WATER = ("underwater",)
AIRY = ("space", "sky", "underwater")
"""Places without a ground."""

STYLES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "fluent3d": (("3D render", "3D style"), ("3D渲染", "3D风格")),
    "fluentflat": (("flat icon", "flat style"), ("扁平图标", "扁平风格")),
    "noto": (("emoji", "emoji style"), ("表情符号", "表情符号风格")),
    "twemoji": (("sticker", "sticker style"), ("贴纸", "贴纸风格")),
    "shapes": (("simple drawing", "simple shapes"), ("简笔画", "简单图形")),
}
"""(English, Chinese) words by style. Of each pair, the first is a countable noun ("a 3D render of …")."""

NUMBERS_EN = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NUMBERS_ZH = "零一两三四五六七八九十"
SIZES_EN = {"large": ("large", "big", "big"), "small": ("small", "little", "tiny")}
POSITIONS_EN = {
    "left": ("on the left of the picture", "on the left side", "on the left"),
    "right": ("on the right of the picture", "on the right side", "on the right"),
    "top": ("at the top of the picture", "at the top"),
    "bottom": ("at the bottom of the picture", "at the bottom"),
    "centre": (
        "in the centre of the picture",
        "in the center",
        "in the middle of the picture",
        "in the middle",
    ),
}
POSITIONS_ZH = {
    "left": ("画面左边", "画面左侧", "图片左边"),
    "right": ("画面右边", "画面右侧", "图片右边"),
    "top": ("画面上方", "画面顶部", "图片上方"),
    "bottom": ("画面下方", "画面底部", "图片下方"),
    "centre": ("画面中央", "画面中间", "图片中间"),
}
RELATIONS_EN = {
    "left": ("to the left of", "on the left of", "left of"),
    "right": ("to the right of", "on the right of", "right of"),
    "above": ("above", "over"),
    "below": ("below", "under", "beneath"),
    "next": ("next to", "next to", "beside"),
    "behind": ("behind",),
    "front": ("in front of",),
    "on": ("on", "on top of"),
}
RELATIONS_ZH = {
    "left": ("的左边", "左边", "的左侧", "左侧"),
    "right": ("的右边", "右边", "的右侧", "右侧"),
    "above": ("上方", "的上方"),
    "below": ("下方", "的下方"),
    "next": ("旁边", "的旁边"),
    "behind": ("后面", "的后面"),
    "front": ("前面", "的前面"),
    "on": ("上", "上面"),
}
INVERSE = {
    "left": "right",
    "right": "left",
    "above": "below",
    "below": "above",
    "next": "next",
    "behind": "front",
}
HATS = ("top_hat", "sun_hat", "cap", "graduation_cap")
"""Things that a caption may call just "hat" or 帽子 when somebody wears them."""
HEADGEAR = (*HATS, "crown", "helmet")
DRESSED = ("tshirt", "jeans", "dress", "coat", "socks", "sneaker", "boot", "high_heel")
"""Clothes that take the Chinese verb 穿; all others take 戴."""
FLOWERS = ("rose", "tulip", "sunflower", "cherry_blossom", "lotus", "hibiscus", "hyacinth", "shape_flower")
SHINING = ("sun", "moon", "star", "full_moon", "shape_sun", "shape_star", "shape_crescent")
LIVELY_SHAPES = {"shape_cat": "animal", "shape_bird": "animal", "shape_fish": "animal"}


def verbs(thing: Thing, place: str) -> list[Verb]:
    """The verbs that are true of the thing as it is drawn in the place; may be empty."""
    category = LIVELY_SHAPES.get(thing.key, thing.category)
    if place == "plain" or (category == "person" and thing.pose == "hang"):
        return []
    if category in ("animal", "person"):
        if thing.pose == "swim" and place in (*IN_WATER, "river", "beach"):
            return [("swimming", "游泳", False)] if place in IN_WATER else [("playing", "玩耍", False)]
        if thing.pose == "swim" or place in IN_WATER:
            return [("playing", "玩耍", False)] if place in IN_WATER else []
        if thing.pose == "fly":
            return [] if place in ("room", "stage") else [("flying", "飞翔", False), ("flying", "飞", False)]
        if place in AIRY:
            return [("floating", "漂浮", True)]
        playing = [("playing", "玩耍", False)]
        if thing.pose == "stand":
            return [("standing", "站", True), *playing] + [("sitting", "坐", True)] * (
                category == "animal" and thing.size <= 0.8
            )
        return playing if category == "person" else [("resting", "休息", False), *playing]
    if thing.key in SHINING:
        return [("shining", "发光", False)] if place in ("night", "space", "sky") else []
    if thing.pose == "fly":
        airy = place in ("space", "sky", "night", "sunset", "mountains")
        return [("flying", "飞行", False)] * airy
    if place in AIRY:
        return [("floating", "漂浮", True)]
    if category == "plant":
        fits = place in ("garden", "field", "forest", "river", "jungle") and thing.pose == "stand"
        blooming = [("blooming", "盛开", False)] * (fits and thing.key in FLOWERS)
        return blooming + [("growing", "生长", False)] * fits
    if category == "vehicle":
        if thing.pose == "swim":
            return []
        driving = [("driving", "行驶", False)] if place in ("road", "city", "desert") else []
        return driving + ([("parked", "停", True)] if thing.key != "train" else [])
    if category == "building":
        return [("standing", "矗立", True)]
    if thing.pose == "lie" and category in ("food", "household", "tool", "sport", "music", "clothing"):
        return [("lying", "放", True)] if place not in ("rain", "night", "sunset", "autumn") else []
    return []
