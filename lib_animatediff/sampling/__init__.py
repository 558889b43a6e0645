"""Arithmetic on latents and noise levels, without a host: noise of frames, FreeInit, Text2Video-Zero, schedules."""
