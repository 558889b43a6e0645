"""The progress of a request in the WebUI's bar, and interrupts in each of its phases."""
