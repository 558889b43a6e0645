"""Many clips under bad conditions: killed workers, a full disk, a read-only folder, a clock that is set back."""
