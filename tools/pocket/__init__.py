"""The pocket model: a tiny Stable Diffusion 1 and its small world, trained from nothing on a CPU."""
