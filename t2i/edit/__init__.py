"""Editing with a loaded Pipeline. Functions from tensors to tensors; nothing here touches a file.

A picture is (3, H, W) float32, RGB in [-1, 1], of any size. A mask is (1, H, W) in [0, 1]; 1 is repainted. `request` is
a `t2i.sampling.SampleRequest` (None: the bundle's defaults), `on_step` as in `Pipeline.sample`. Results are a function
of (weights, prompt, request, seed, input); row i depends on `prompts[i]` and `seeds[i]` alone.

    inpaint.inpaint(pipeline, image, mask, prompts, seeds, request=None, *, feather=None, on_step=None)
        -> (B, 3, H, W), equal to `image` bit by bit where the mask is 0
    masks.extend(image, left=0, top=0, right=0, bottom=0) -> (image, mask) of a larger canvas; masks.box(…) -> mask
    textmask.text_mask(pipeline, image, what, *, seed=0, grow_by=0.0, threshold=None, boxed=False)
        -> mask (1, H, W) of 0 and 1
    upscaling.upscale(pipeline, image, (height, width), seed=0, request=None, *, tile=160, gate=True, on_step=None)
        -> Upscaled(image (3, height, width), factors, share)
    vary.variations(pipeline, image, seeds, request=None, *, prompts=None, strength=1.0, on_step=None) -> Samples
    vary.blend(pipeline, a, b, shares, seeds, request=None, *, strength=0.0, on_step=None) -> Samples, one a share
    vary.text_diff(pipeline, image, source, target, thetas, seeds, request=None, *, strength=0.0, …) -> Samples
    vary.image_to_image(pipeline, image, prompts, seeds, request=None, *, strength=0.6, on_step=None) -> Samples
    rerank.rerank(pipeline, prompts, seeds, k, request=None, *, on_step=None) -> Ranked(samples, seeds, scores)

`vary` and `rerank` draw squares of the bundle's sizes. Pictures that are not square are cropped to their centre.
"""
