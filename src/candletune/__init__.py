"""candletune: from a trader's candles to a certified local trading model, and an honest verdict on it."""

__version__ = "0.1.0"
