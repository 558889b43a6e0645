"""A UNet becomes a video model and back: injection, context windows, the call under way. Needs torch only."""
