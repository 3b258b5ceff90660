"""End to end in a minute: three stages trained on a folder of pictures, then prompts that decide what is drawn."""

from __future__ import annotations

from pathlib import Path

import torch

from t2i.media.images import save_image, to_pil
from t2i.pipeline import Pipeline
from t2i.train.trainer import train
from t2i.world import Group, World, WorldConfig

SHAPES = ("circle", "square", "triangle", "heart")
COLOURS = ("red", "green", "blue")
VARIANTS = 8

RECIPE = """
seed = 1
[tokenizer]
captions = 300
[clip]
contrast = 0.3
[clip.net]
embed_dim = 32
image_size = 16
patch = 4
vision_width = 64
vision_layers = 2
vision_head_width = 32
text_width = 64
text_layers = 2
text_heads = 2
context = 16
vocab = 320
[clip.schedule]
steps = 200
batch = 32
lr = 2e-3
warmup = 20
precision = "fp32"
[base]
size = 16
masked = 0.0
[base.net]
channels = [32, 64]
blocks = [1, 1]
attention = [1]
mid_blocks = 1
emb_dim = 96
context_dim = 64
cond_dim = 32
text_dim = 64
time_features = 32
[base.schedule]
steps = 80
batch = 32
lr = 1e-3
warmup = 10
decay = 0.5
precision = "fp32"
[prior]
pool = 96
[prior.net]
embed_dim = 32
token_dim = 64
context = 16
width = 96
depth = 2
heads = 2
pool_width = 64
pool_heads = 2
time_features = 32
[prior.schedule]
steps = 250
batch = 48
lr = 1.5e-3
warmup = 20
precision = "fp32"
[upsampler256.schedule]
steps = 0
"""


def caption(colour: str, shape: str) -> str:
    return f"a {colour} {shape} on a white background"


def draw_folder(path: Path) -> Path:
    """96 captioned pictures of 32 pixels: every shape in every colour, each in another place and size."""
    world = World(WorldConfig(vocabulary="shapes"))
    path.mkdir()
    for shape in SHAPES:
        for colour in COLOURS:
            group = Group(f"shape_{shape}", 1, colour)
            scenes = [world.layout.compose([group], "plain", shade="white", seed=7, index=i) for i in range(VARIANTS)]
            pixels, _ = world.draw(scenes, 32)
            for i, picture in enumerate(pixels):
                save_image(to_pil(picture), path / f"{shape}-{colour}-{i}.png")
                (path / f"{shape}-{colour}-{i}.txt").write_text(caption(colour, shape))
    return path


def test_prompts_change_the_picture_in_the_right_direction(tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(RECIPE)
    data = draw_folder(tmp_path / "data")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train("all", str(tmp_path / "small.toml"), data=str(data), out=tmp_path / "model")
    finally:
        torch.set_num_threads(before)
    pipeline = Pipeline.load(tmp_path / "model")
    prompts = [caption(colour, shape) for colour in COLOURS for shape in SHAPES for _ in range(2)]
    images = pipeline.sample(prompts, list(range(len(prompts)))).images
    assert images.shape == (24, 3, 16, 16)
    middle = images[:, :, 4:12, 4:12].mean((2, 3)).unflatten(0, (3, 8)).mean(1)  # (colour said, RGB)
    corner = images[:, :, :2, :2].mean()
    assert corner > 0.3, "the background is white"
    for i, colour in enumerate(COLOURS):
        others = (middle[i].sum() - middle[i, i]) / 2
        assert middle[i, i] > others + 0.15, f"{colour}: {middle[i].tolist()}"
        assert middle[:, i].argmax() == i, f"the prompt that says {colour} has the most of it: {middle[:, i].tolist()}"
