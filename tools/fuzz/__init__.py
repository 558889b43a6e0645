"""Fuzzing of everything that comes from outside: files, texts, settings and command lines."""
