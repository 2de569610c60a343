"""Tokens and masks, the base model, the QLoRA recipe, and the tiny local base."""
