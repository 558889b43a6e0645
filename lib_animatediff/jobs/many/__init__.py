"""Many clips: the rows of a manifest, claims on them, and the processes that render them."""
