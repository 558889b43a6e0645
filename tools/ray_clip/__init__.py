"""One long clip on several Ray workers: the same bits, what it sends, and how much faster it can be."""
