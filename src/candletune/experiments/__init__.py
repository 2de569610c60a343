"""More than one training: comparing runs, and choosing among settings on the eval split."""
