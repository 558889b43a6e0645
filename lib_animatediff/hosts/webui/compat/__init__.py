"""The only door to the WebUI's own code: `a1111` imports `modules.*`, `base` types what it passes on."""
