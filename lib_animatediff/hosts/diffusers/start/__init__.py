"""Starts of a clip other than noise: latents of a video, and samplers that begin late."""
