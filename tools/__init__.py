"""What developers run: the built-in model's trainer, benchmarks, pages that are written from results."""
