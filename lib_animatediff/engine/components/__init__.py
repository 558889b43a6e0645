"""Additions to a UNet while it renders clips: motion modules, cross-frame attention, domain adapters."""
