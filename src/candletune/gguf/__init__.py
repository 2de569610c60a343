"""GGUF: the adapter's writer, the model's writer, quantizing, bounded reading, and the catalogue of versions."""
