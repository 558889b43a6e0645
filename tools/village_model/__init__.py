"""The village model: a small Stable Diffusion 1 of the world in `tools.village`, its motion module and its LoRAs."""
