"""The WebUI's hooks: its script, the session of one request, the layout of rows."""
