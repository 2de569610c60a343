"""Renders what evaluation found: one HTML report."""
