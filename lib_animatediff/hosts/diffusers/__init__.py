"""The diffusers host: `animate` on a pipeline."""
