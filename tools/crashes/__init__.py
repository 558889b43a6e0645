"""Kills the command line at random moments, continues the clip, and compares it with the uninterrupted one."""
