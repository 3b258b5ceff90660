"""The mathematics of diffusion: processes, denoisers, guidance, schedules, samplers, losses. No networks."""
