"""Clips into the gallery, the API's reply and files."""
