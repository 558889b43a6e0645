"""Mutation check: puts known faults into the code, one at a time, and counts how many the tests notice."""
