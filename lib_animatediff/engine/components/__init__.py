"""What a UNet carries while it makes clips: motion modules, cross-frame attention, domain adapters."""
