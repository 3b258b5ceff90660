"""The pipelines of the library diffusers that can be drawn with: what each takes, and its defaults.

A checkpoint names its pipeline in model_index.json. What it can do is known from this table, before the library is
imported; a test compares it with the signatures of the installed version.
"""

from __future__ import annotations

from dataclasses import dataclass

INDEX = "model_index.json"


@dataclass(frozen=True)
class PipelineClass:
    """What one class of pipeline takes.

    family: what it is called in messages and tables. steps, guidance: the defaults; guidance None: it takes none.
    weight: the argument that guidance is called. negative: whether it takes a negative prompt. init, inpaint: the
    classes, made of the same parts, that start from a picture and that repaint a part of one. patch: latent cells a
    side that the network reads as one. blank: the negative prompt where none is given, for a pipeline that guides only
    with one.
    role: "base" draws from a prompt, "prior" makes an image embedding of one, "decoder" draws from that embedding,
    "upsampler" enlarges a picture, "inpaint" repaints and "variation" varies pictures, and draw nothing else. embedded:
    whether it needs a prior. scale: of an upsampler, by how much it enlarges; multiple: sides of the pictures that it
    takes are multiples of it. lora: whether it takes LoRAs.
    """

    family: str
    steps: int
    guidance: float | None
    weight: str = "guidance_scale"
    negative: bool = True
    init: str | None = None
    inpaint: str | None = None
    patch: int = 1
    blank: str | None = None
    role: str = "base"
    embedded: bool = False
    scale: int = 1
    multiple: int = 16
    lora: bool = True


PIPELINES: dict[str, PipelineClass] = {
    "StableDiffusionPipeline": PipelineClass(
        "Stable Diffusion", 50, 7.5, init="StableDiffusionImg2ImgPipeline", inpaint="StableDiffusionInpaintPipeline"
    ),
    "StableDiffusionInpaintPipeline": PipelineClass(
        "Stable Diffusion inpainting", 50, 7.5, inpaint="StableDiffusionInpaintPipeline", role="inpaint"
    ),
    "StableDiffusionXLPipeline": PipelineClass(
        "Stable Diffusion XL", 50, 5.0, init="StableDiffusionXLImg2ImgPipeline",
        inpaint="StableDiffusionXLInpaintPipeline",
    ),
    "StableDiffusionXLInpaintPipeline": PipelineClass(
        "Stable Diffusion XL inpainting", 50, 7.5, inpaint="StableDiffusionXLInpaintPipeline", role="inpaint"
    ),
    "StableDiffusion3Pipeline": PipelineClass(
        "Stable Diffusion 3", 28, 7.0, init="StableDiffusion3Img2ImgPipeline",
        inpaint="StableDiffusion3InpaintPipeline", patch=2,
    ),
    "FluxPipeline": PipelineClass(
        "FLUX", 28, 3.5, negative=False, init="FluxImg2ImgPipeline", inpaint="FluxInpaintPipeline", patch=2
    ),
    "PixArtAlphaPipeline": PipelineClass("PixArt-α", 20, 4.5, patch=2, lora=False),
    "PixArtSigmaPipeline": PipelineClass("PixArt-Σ", 20, 4.5, patch=2, lora=False),
    "SanaPipeline": PipelineClass("Sana", 20, 4.5),
    "Lumina2Pipeline": PipelineClass("Lumina 2", 30, 4.0, patch=2),
    "ZImagePipeline": PipelineClass(
        "Z-Image", 50, 5.0, init="ZImageImg2ImgPipeline", inpaint="ZImageInpaintPipeline", patch=2
    ),
    "QwenImagePipeline": PipelineClass(
        "Qwen-Image", 50, 4.0, "true_cfg_scale", init="QwenImageImg2ImgPipeline", inpaint="QwenImageInpaintPipeline",
        patch=2, blank=" ",
    ),
    "AuraFlowPipeline": PipelineClass("AuraFlow", 50, 3.5, patch=2),
    "LatentConsistencyModelPipeline": PipelineClass(
        "LCM", 4, 8.5, negative=False, init="LatentConsistencyModelImg2ImgPipeline"
    ),
    "UnCLIPPipeline": PipelineClass("unCLIP (Karlo)", 25, 8.0, negative=False, lora=False),
    "UnCLIPImageVariationPipeline": PipelineClass(
        "image variations of Karlo", 25, 8.0, negative=False, role="variation", lora=False
    ),
    "KandinskyV22PriorPipeline": PipelineClass("the prior of Kandinsky 2.2", 25, 4.0, role="prior", lora=False),
    "KandinskyV22Pipeline": PipelineClass(
        "Kandinsky 2.2", 100, 4.0, init="KandinskyV22Img2ImgPipeline", patch=8, embedded=True, lora=False
    ),
    "KandinskyV22InpaintPipeline": PipelineClass(
        "Kandinsky 2.2 inpainting", 100, 4.0, inpaint="KandinskyV22InpaintPipeline", patch=8, role="inpaint",
        embedded=True, lora=False,
    ),
    "IFPipeline": PipelineClass("DeepFloyd IF", 100, 7.0, init="IFImg2ImgPipeline", inpaint="IFInpaintingPipeline"),
    "IFSuperResolutionPipeline": PipelineClass("DeepFloyd IF II", 50, 4.0, role="upsampler", scale=4),
    "StableDiffusionUpscalePipeline": PipelineClass(
        "Stable Diffusion x4 upscaler", 75, 9.0, role="upsampler", scale=4
    ),
    "StableDiffusionLatentUpscalePipeline": PipelineClass(
        "Stable Diffusion latent upscaler", 75, 9.0, role="upsampler", scale=2, multiple=64, lora=False
    ),
}  # fmt: skip
"""Class in model_index.json -> what it takes."""
