"""Starts of a clip other than noise, in the WebUI's samplers: parts of a video that are held, images at frames."""
