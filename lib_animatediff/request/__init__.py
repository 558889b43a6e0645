"""The request: its settings, and everything that is derived from them before sampling."""
