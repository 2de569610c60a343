"""Logistic regression on the words of the headlines and the fields' features: what counting words comes to."""

from typing import Any

import polars as pl

from candletune.evaluation.baselines.base import Baseline, Ints, Task, classify, features, reads_headlines

MOST_WORDS = 20_000


def decide(task: Task) -> Ints:
    """TF-IDF of words and pairs of words, beside the standardised features."""
    from scipy.sparse import csr_matrix, hstack
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, max_features=MOST_WORDS)
    try:
        words.fit(task.train["headlines"].to_list())
    except ValueError:  # no word occurs twice: placeholders and a handful of titles
        words = TfidfVectorizer().fit([*task.train["headlines"].to_list(), "none"])
    numbers = StandardScaler().fit(features(task.train))

    def inputs(frame: pl.DataFrame) -> Any:
        told = words.transform(frame["headlines"].to_list())
        return csr_matrix(hstack([csr_matrix(numbers.transform(features(frame))), told]))

    model = LogisticRegression(max_iter=1000, random_state=task.seed)
    return classify(model, task, inputs)


BASELINE = Baseline("TF-IDF and logistic regression", 55, decide, reads_headlines)
