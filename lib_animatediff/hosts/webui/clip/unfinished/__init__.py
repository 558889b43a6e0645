"""Clips that are not finished: the denoiser's outputs in a file, from which their sampling goes on."""
