"""The village: the second built-in model's world, drawn by code."""
