"""Feature reuse: most of the UNet is computed at some of the steps only (DeepCache, arXiv 2312.00858)."""
