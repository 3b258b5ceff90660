"""A recipe so small that a step takes milliseconds, and a folder of captioned pictures to train it on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

MICRO = """
seed = 3
[world]
vocabulary = "shapes"
things = ["shape_circle", "shape_square", "shape_star"]
places = ["plain", "snow"]
[tokenizer]
vocabulary = "shapes"
captions = 300
[clip.net]
embed_dim = 32
image_size = 16
patch = 8
vision_width = 32
vision_layers = 1
vision_head_width = 32
text_width = 32
text_layers = 1
text_heads = 2
context = 24
vocab = 512
[clip.schedule]
steps = 12
batch = 4
precision = "fp32"
log_every = 1
save_every = 5
sample_every = 100
[base]
size = 16
[base.net]
channels = [16, 24]
blocks = [1, 1]
attention = [1]
mid_blocks = 1
head_dim = 8
emb_dim = 32
context_dim = 32
cond_dim = 32
text_dim = 32
z_tokens = 2
time_features = 16
[base.schedule]
steps = 3
batch = 4
precision = "fp32"
log_every = 1
[prior]
pool = 16
[prior.net]
embed_dim = 32
token_dim = 32
context = 24
width = 32
depth = 1
heads = 2
pool_width = 32
pool_heads = 2
time_features = 16
[prior.schedule]
steps = 3
batch = 4
precision = "fp32"
log_every = 1
[upsampler256]
size = 64
crop = 32
crops = 2
[upsampler256.net]
width = 16
depth = 1
emb_dim = 16
time_features = 16
[upsampler256.schedule]
steps = 3
batch = 4
precision = "fp32"
log_every = 1
[sample]
prior_steps = 2
base_steps = 2
upsampler_steps = 1
"""


@pytest.fixture(scope="session")
def micro(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of the recipe: clip and base at 16 pixels, the upsampler to 64."""
    path = tmp_path_factory.mktemp("recipe") / "micro.toml"
    path.write_text(MICRO)
    return str(path)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Sums in one order: results are equal to the bit, also between processes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
