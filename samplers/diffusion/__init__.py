"""Diffusion models: forward processes whose perturbation kernels are known in closed form, and their noise schedules."""
