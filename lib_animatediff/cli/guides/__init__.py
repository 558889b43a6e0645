"""Options of `animate` for models that carry given images to the other frames."""
