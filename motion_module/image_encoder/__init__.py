"""The image encoder of AnimateLCM-I2V: a given image steers the motion module beside it (arXiv 2402.00769)."""
