"""The HTML report and the blind review."""
