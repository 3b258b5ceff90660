"""The networks: plain modules, tensors in and tensors out, each built from a frozen config.

text and pictures   clip.py; language.py: a text encoder that has seen no picture
DALL-E 2, Imagen    prior.py; unet.py with unet_config.py, conditioner.py, reader.py: the base; upsampler.py, sr_unet.py
DALL-E              vae.py with laplace.py; dalle.py: the transformer over its tokens
a GAN               gan.py
parts               layers.py; linear.py: products that are fast on a CPU; config.py: what all configs share; lora.py:
                    low-rank changes of any network
"""
