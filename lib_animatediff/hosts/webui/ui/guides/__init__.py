"""Parts of the panel for images at frames, and for the models that carry them to other frames."""
