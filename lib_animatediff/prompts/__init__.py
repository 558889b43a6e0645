"""Prompt travel: its grammar, and conditions between two prompts."""
