"""Editing with a loaded `Pipeline`: functions from tensors to tensors; nothing here touches a file.

A picture is (3, H, W) float32, RGB in [-1, 1], of any size. A mask is (1, H, W) in [0, 1]; 1 is repainted. `request` is
a `t2i.sampling.SampleRequest` (None: the bundle's defaults), `on_step` as in `Pipeline.sample`. Results are a function
of (weights, prompt, request, seed, input); row i depends on `prompts[i]` and `seeds[i]` alone.

bundle_engine.py   a bundle as a `t2i.engine.Engine`: its pipeline, and all below
inpaint.py         parts of a picture, by the model; repaint.py: square after square, whatever paints them; masks.py;
                   smooth_fill.py, exemplar.py: fills without a model
vary.py            variations, blends, text diffs, image to image; latents.py: DDIM inversion and slerp
upscaling.py       larger pictures, in tiles
places.py          the place of a picture, for prompts that say none
rerank.py          the best of several pictures by CLIP
textmask.py        a mask from words, by the base; naming.py, things.py: from what a text names, by the judge

`vary` and `rerank` draw squares of the bundle's sizes. Pictures that are not square are cropped to their centre.
"""
