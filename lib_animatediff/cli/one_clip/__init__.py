"""One clip: rendered as `animate` was asked to, and continued by `resume`."""
