"""Motion module files: reading weights safely, detecting what a file is, converting."""
