"""Starts of a clip other than noise, in the WebUI's samplers."""
