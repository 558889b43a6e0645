"""A clip as a job: from a request to frames, and to the recipe that makes them again."""
