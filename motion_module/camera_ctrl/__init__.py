"""CameraCtrl: where the camera stands in each frame steers the motion module (arXiv 2404.02101)."""
