"""A request's prompts, noise, motion LoRAs and Text2Video-Zero in the WebUI."""
