"""The extension for the AUTOMATIC1111 WebUI: the only code that imports `modules.*` and gradio."""
