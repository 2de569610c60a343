"""More than one training: walking forward, comparing runs, and choosing among settings on the eval split."""
