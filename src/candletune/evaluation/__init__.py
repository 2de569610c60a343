"""Replay, outcomes, metrics, statistics, baselines and the decision rule."""
