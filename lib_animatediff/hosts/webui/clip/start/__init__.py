"""Images that a clip of the WebUI starts from."""
