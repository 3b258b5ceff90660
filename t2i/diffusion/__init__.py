"""The mathematics of diffusion; no networks.

process.py      how noise is added: x_t = alpha_t x_0 + sigma_t eps
denoiser.py     any network as x0_hat = D(x, sigma, cond)
loss.py         how a denoiser is trained
schedule.py     the noise levels of n steps
samplers.py     from noise to a picture along them
guidance.py     classifier-free guidance and thresholding, Denoiser -> Denoiser
"""
