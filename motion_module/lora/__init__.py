"""Low-rank files: motion LoRAs and domain adapters."""
