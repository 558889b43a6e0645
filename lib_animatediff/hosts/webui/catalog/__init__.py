"""The user's files in the WebUI: motion modules, motion LoRAs, other extensions."""
