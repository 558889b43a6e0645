"""What is asked for, and what follows from it."""
