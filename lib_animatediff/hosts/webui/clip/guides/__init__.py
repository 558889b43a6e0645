"""Models in the WebUI that carry images at frames to the other frames, and cameras."""
