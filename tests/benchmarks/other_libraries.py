"""Our networks against those of other libraries, at equal numbers of parameters: drawing, and a training step.

    python tests/benchmarks/other_libraries.py diffusers    # a U-Net of diffusers, the size of our base
    python tests/benchmarks/other_libraries.py imagen       # imagen-pytorch
    python tests/benchmarks/other_libraries.py dalle2       # DALLE2-pytorch

imagen and dalle2 need libraries that t2i does not install: pip install imagen-pytorch dalle2-pytorch. Ours are the
shipped weights, theirs are random; what a network costs does not depend on its weights. In turns in one process, in
either order, after a warm-up. Times are CPU seconds, which other work on the machine disturbs less than the clock. The
results are in docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.diffusion.loss import DenoisingObjective, diffusion_loss
from t2i.pipeline import Conditioning, Pipeline
from t2i.rng import generator
from t2i.sampling import SampleRequest, by_stage
from t2i.stages.base import base_cond, bound_net
from t2i.stages.prior import unread
from t2i.stages.stage import Stage
from t2i.text.cond import TextCond

WEIGHTS = Path(__file__).parents[2] / "weights"
TURNS = 6  # three in each order
STEPS, GUIDANCE = 4, 2.0
PICTURES, ROWS = 2, 8  # drawn together, in a training step
EMBED, TOKENS, WIDTH = 512, 40, 256  # of CLIP's embeddings and of the text that all read

Call = Callable[[], Any]


def in_turns(*calls: Call) -> list[float]:
    """Median CPU seconds of each, called in turns, every second time backwards, after one warm-up."""
    found: list[list[float]] = [[] for _ in calls]
    for turn in range(TURNS + 1):
        order = list(zip(calls, found, strict=True))
        for call, times in order if turn % 2 else order[::-1]:
            before = time.process_time()
            call()
            if turn:
                times.append(time.process_time() - before)
    return [median(times) for times in found]


def parameters(net: nn.Module) -> float:
    """Millions of them."""
    return sum(weight.numel() for weight in net.parameters()) / 1e6


def row(what: str, ours: tuple[nn.Module, Call], theirs: tuple[nn.Module, Call]) -> None:
    """Measure one pair and print it."""
    a, b = in_turns(ours[1], theirs[1])
    sizes = f"{parameters(ours[0]):.1f} | {parameters(theirs[0]):.1f}"
    print(f"| {what} | {sizes} | {a:.2f} | {b:.2f} | {b / a:.2f} |", flush=True)


def header() -> None:
    print("| what | t2i, M parameters | theirs | t2i, CPU s | theirs, CPU s | speed |\n|---|---|---|---|---|---|")


def training(net: nn.Module, loss: Callable[[], Tensor]) -> Call:
    """A step: loss, gradients, AdamW."""
    net.train().requires_grad_(True)
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-6)

    def step() -> None:
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()

    return step


def own_training(stage: Stage, net: Any, x0: Tensor, cond: Any) -> Call:
    """A step of a stage of ours."""
    objective = DenoisingObjective(prediction=stage.prediction)

    def loss() -> Tensor:
        g = generator("benchmark", 0)
        return diffusion_loss(net, stage.process, objective, x0, cond, generator=g)[0].mean()

    return training(stage.net, loss)


def given(rows: int) -> tuple[TextCond, Tensor]:
    """A text and an image embedding for each row."""
    g = generator("benchmark", 1)
    tokens, z = torch.randn(rows, TOKENS, WIDTH, generator=g), torch.randn(rows, EMBED, generator=g)
    mask = torch.ones(rows, TOKENS, dtype=torch.bool)
    return TextCond(tokens, mask, F.normalize(torch.randn(rows, EMBED, generator=g), dim=-1)), F.normalize(z, dim=-1)


def asked() -> SampleRequest:
    """Steps and guidance of base and prior, at all levels of noise; one embedding a picture."""
    steps = {"base": STEPS, "prior": STEPS}
    request = SampleRequest(size=64, stages=by_stage(steps=steps, guidance=dict.fromkeys(steps, GUIDANCE)))
    everywhere = {"interval": (0.0, 1e9), "t_end": 0.0, "best_of": 1}
    return replace(request, stages={name: replace(s, **everywhere) for name, s in request.stages.items()})


def base(model: Pipeline) -> tuple[Stage, Call, Call]:
    """Our base: drawing, and a training step."""
    stage, (text, z), (texts, zs) = model.base[1], given(PICTURES), given(ROWS)
    pixels = torch.rand(ROWS, 3, 64, 64) * 2 - 1

    def draw() -> None:
        model.sample_base(Conditioning(text, z), range(PICTURES), asked())

    return stage, draw, own_training(stage, bound_net(stage), pixels, base_cond(texts, zs))


def prior(model: Pipeline) -> tuple[Stage, Call, Call]:
    """Our prior."""
    assert model.prior is not None
    stage, (text, _), (texts, zs) = model.prior[1], given(PICTURES), given(ROWS)

    def draw() -> None:
        model.sample_prior(text, range(PICTURES), asked())

    return stage, draw, own_training(stage, stage.net, zs * EMBED**0.5, unread(texts, True))


def against_diffusers(model: Pipeline) -> None:
    """A text-conditional U-Net over 64 x 64 pixels, sampled by DDIM with guidance."""
    import diffusers

    net = diffusers.UNet2DConditionModel(
        sample_size=64, in_channels=3, out_channels=3, block_out_channels=(48, 96, 160), layers_per_block=1,
        norm_num_groups=16, attention_head_dim=8, cross_attention_dim=WIDTH,
        down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    scheduler = diffusers.DDIMScheduler(prediction_type="sample")
    (text, _), (texts, _) = given(PICTURES), given(ROWS)
    pixels = torch.rand(ROWS, 3, 64, 64) * 2 - 1

    @torch.inference_mode()
    def draw() -> None:
        x = torch.randn(PICTURES, 3, 64, 64, generator=generator("benchmark", 2))
        scheduler.set_timesteps(STEPS)
        both = torch.cat([torch.zeros_like(text.tokens), text.tokens])
        for t in scheduler.timesteps:
            away, toward = net(torch.cat([x, x]), t, both).sample.chunk(2)
            x = scheduler.step(away + GUIDANCE * (toward - away), t, x).prev_sample

    def loss() -> Tensor:
        g = generator("benchmark", 0)
        t, eps = torch.randint(1000, (ROWS,), generator=g), torch.randn(pixels.shape, generator=g)
        out: Tensor = net(scheduler.add_noise(pixels, eps, t), t, texts.tokens).sample
        return F.mse_loss(out, pixels)

    stage, ours, our_step = base(model)
    compare("base", (stage.net, ours, our_step), (net, draw, training(net, loss)))


def compare(name: str, ours: tuple[nn.Module, Call, Call], theirs: tuple[nn.Module, Call, Call]) -> None:
    """Two rows: drawing, and a training step."""
    for what, at, training_ in ((f"{PICTURES} of the {name}", 1, False), (f"training step of the {name}", 2, True)):
        for net, *_ in (ours, theirs):
            net.train(training_)
        row(what, (ours[0], ours[at]), (theirs[0], theirs[at]))


def against_imagen(model: Pipeline) -> None:
    """imagen-pytorch's base, sampled by its own DDPM sampler with as many steps."""
    import transformers

    # it asks the hub for the width of a T5 where it is imported
    transformers.T5Config.from_pretrained = classmethod(lambda cls, *_, **__: cls(d_model=768))
    from imagen_pytorch import Imagen, Unet

    last = (False, False, True)
    net = Unet(
        dim=48, dim_mults=(1, 2, 3), text_embed_dim=WIDTH, cond_dim=WIDTH, num_resnet_blocks=1, layer_attns=last,
        layer_cross_attns=last, attn_heads=4, attn_dim_head=32, max_text_len=TOKENS, memory_efficient=True,
    )  # fmt: skip
    whole = Imagen(net, image_sizes=64, timesteps=STEPS, text_embed_dim=WIDTH, dynamic_thresholding=False)
    (text, _), (texts, _) = given(PICTURES), given(ROWS)
    pixels = torch.rand(ROWS, 3, 64, 64)
    how = {"cond_scale": GUIDANCE, "use_tqdm": False, "cfg_remove_parallel_component": False}
    draw = lambda: whole.sample(text_embeds=text.tokens, text_masks=text.mask, batch_size=PICTURES, **how)  # noqa: E731
    step = training(whole, lambda: whole(pixels, text_embeds=texts.tokens, text_masks=texts.mask, unet_number=1))
    stage, ours, our_step = base(model)
    compare("base", (stage.net, ours, our_step), (net, draw, step))  # `whole` hides its networks while one is trained


def against_dalle2(model: Pipeline) -> None:
    """DALLE2-pytorch's prior and decoder; both read an embedding, the decoder the text too."""
    from dalle2_pytorch import Decoder, DiffusionPrior, DiffusionPriorNetwork, Unet

    (text, z), (texts, zs) = given(PICTURES), given(ROWS)
    net = DiffusionPriorNetwork(dim=EMBED, depth=3, heads=8, dim_head=64, max_text_len=TOKENS, ff_mult=2)
    whole = DiffusionPrior(net, image_embed_dim=EMBED, timesteps=1000, sample_timesteps=STEPS)
    wide = [F.pad(x.tokens, (0, EMBED - WIDTH)) for x in (text, texts)]  # its text has the width of the embedding
    cond = {"text_embed": text.pooled, "text_encodings": wide[0]}
    draw = lambda: whole.p_sample_loop((PICTURES, EMBED), text_cond=cond, cond_scale=GUIDANCE, timesteps=STEPS)  # noqa: E731
    step = training(whole, lambda: whole(text_embed=texts.pooled, text_encodings=wide[1], image_embed=zs))
    stage, ours, our_step = prior(model)
    compare("prior", (stage.net, ours, our_step), (whole, draw, step))

    unet = Unet(
        dim=48, dim_mults=(1, 2, 3), image_embed_dim=EMBED, text_embed_dim=WIDTH, cond_dim=WIDTH, num_resnet_blocks=1,
        cond_on_text_encodings=True, cond_on_image_embeds=True, max_text_len=TOKENS, attn_heads=4,
    )  # fmt: skip
    decoder = Decoder(unet, image_sizes=(64,), timesteps=1000, sample_timesteps=STEPS, learned_variance=False)
    pixels = torch.rand(ROWS, 3, 64, 64)

    def paint() -> None:
        decoder.sample(image_embed=z, text_encodings=text.tokens, cond_scale=GUIDANCE)

    step = training(decoder, lambda: decoder(pixels, image_embed=zs, text_encodings=texts.tokens, unet_number=1))
    stage, ours, our_step = base(model)
    compare("base", (stage.net, ours, our_step), (decoder, paint, step))


def main() -> None:
    """Print the rows of the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    measures = {"diffusers": against_diffusers, "imagen": against_imagen, "dalle2": against_dalle2}
    parser.add_argument("what", nargs="+", choices=measures)
    args = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    model = Pipeline.load(WEIGHTS / "small")
    header()
    for what in args.what:
        measures[what](model)


if __name__ == "__main__":
    main()
