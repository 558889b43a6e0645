"""The command line, and the diffusers pipeline that it runs on."""
