"""The programs that sample: diffusers and the AUTOMATIC1111 WebUI."""
