"""Training: examples with loss weights, the adapter, the recipe, what watches it, and the engines that compute it."""
