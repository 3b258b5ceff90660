"""The mathematics of diffusion: processes, denoisers, guidance, schedules, samplers, losses; no networks."""
