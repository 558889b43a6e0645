"""Control models (ControlNet, T2I adapter) that steer a clip frame by frame."""
