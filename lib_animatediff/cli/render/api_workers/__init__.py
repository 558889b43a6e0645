"""The clips of a manifest on WebUIs, by their HTTP API."""
