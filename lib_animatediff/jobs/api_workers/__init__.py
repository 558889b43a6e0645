"""Whole clips on WebUIs, by their HTTP API."""
