"""The extension sd-webui-controlnet in clips: which unit gets which images, and its hints in every UNet call."""
