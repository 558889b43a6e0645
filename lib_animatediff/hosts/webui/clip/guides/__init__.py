"""SparseCtrl and PIA in the WebUI: models that carry images at frames to the other frames."""
