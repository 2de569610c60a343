"""What an example stands for: they are drawn by class and spread over the months, hours are not."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candletune.artifacts import CandidateRows


def stands_for(train: pl.DataFrame, months: Mapping[str, CandidateRows]) -> NDArray[np.float64]:
    """How many candidate rows of its month and class each example stands for, (examples,).

    Args:
        train: `decision_time` and `label` of the examples.
        months: all rows that might have become examples, by month.
    """
    keys = list(zip(train["decision_time"].dt.strftime("%Y-%m"), train["label"].cast(pl.String), strict=True))
    drawn = Counter(keys)
    return np.array([months[key[0]].rows * months[key[0]].share(key[1]) / drawn[key] for key in keys])
