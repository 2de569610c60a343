"""Outcomes, metrics, statistics, baselines, reviews and the decision rule: the only place that scores."""
