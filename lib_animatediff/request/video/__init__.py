"""A source video of a request: which of its frames a clip starts from, and what the clip takes over from it."""
