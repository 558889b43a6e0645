"""Prompt travel: the grammar, and the interpolation of conditionings."""
