"""One clip on several pipelines: one of them samples, the others compute its context windows."""
