"""Clips on the machines of a Ray cluster: whole ones, or the context windows of a long one."""
