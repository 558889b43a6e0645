"""SparseCtrl encoders: images or scribbles at some frames of a clip steer all of them (arXiv 2311.16933)."""
