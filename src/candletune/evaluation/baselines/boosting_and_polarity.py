"""Gradient boosting on the fields' features and the given polarity of the headlines."""

import numpy as np
import polars as pl

from candletune.evaluation.baselines.base import Baseline, Floats, Ints, Task, classify, features, reads_headlines
from candletune.evaluation.baselines.gradient_boosting import model

_SIGNS = {"positive": 1.0, "negative": -1.0, "neutral": 0.0}


def inputs(frame: pl.DataFrame) -> Floats:
    """The features, and the mean polarity as the prompt shows it, (n, number of features + 1)."""
    signs = frame["news_sentiment"].replace_strict(_SIGNS, default=0.0, return_dtype=pl.Float64)
    return np.column_stack([features(frame), (signs * frame["sentiment_confidence"]).to_numpy()])


def decide(task: Task) -> Ints:
    """As gradient boosting, with one number more."""
    return classify(model(task.seed), task, inputs)


BASELINE = Baseline("boosting and polarity", 65, decide, reads_headlines)
