"""The command `render`: every clip of a manifest."""
