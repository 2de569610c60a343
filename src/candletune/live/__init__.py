"""The live side: signal, shadow, promotion."""
