"""The only interface to the WebUI's own code: `a1111` imports `modules.*`, and `base` has types of its objects."""
