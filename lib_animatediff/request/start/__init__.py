"""Starts of a clip other than noise."""
