"""The accordion, its plan, the settings page and the X/Y/Z axes."""
