"""Logistic regression on the fields' features."""

from candletune.evaluation.baselines.base import Baseline, Ints, Task, classify


def decide(task: Task) -> Ints:
    """Standardised features, scikit-learn's defaults."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = LogisticRegression(max_iter=1000, random_state=task.seed)
    return classify(make_pipeline(StandardScaler(), model), task)


BASELINE = Baseline("logistic regression", 50, decide)
