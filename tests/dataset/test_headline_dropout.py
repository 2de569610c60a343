"""`headlines.dropout`: part of the training rows lose their headlines, the rest of the dataset is what it was."""

from pathlib import Path

import polars as pl
import pytest

from candletune.config import load_config
from candletune.console import SilentReporter
from candletune.dataset import Examples, audit, read_examples
from candletune.runs import RunFolder
from candletune.stages import stage
from candletune.stages.pipeline import prepare
from candletune.stages.runner import run_stage

SETTINGS = ("simulate.enabled=true", "simulate.news=1", "simulate.years=0.6", "dataset.per_class=90")
TOLD = ("headlines", "news_sentiment", "sentiment_confidence")


def built(folder: Path, share: float) -> tuple[Examples, list[str]]:
    settings = [f"run.folder={folder}", *SETTINGS, "dataset.natural_eval=40", f"headlines.dropout={share}"]
    config, run, quiet = load_config(None, settings), RunFolder(folder), SilentReporter()
    with run.lock():
        config = prepare(config, run, quiet)
        run_stage(stage("dataset"), config, run, quiet)
    return read_examples(run), list(audit(config, run, 25, quiet).problems)


def test_half_of_the_training_rows_lose_them_and_nothing_else_changes(tmp_path: Path) -> None:
    (whole, _), (half, problems) = built(tmp_path / "whole", 0), built(tmp_path / "half", 0.5)
    assert problems == []
    train = (half.meta["split"] == "train").to_numpy()
    before, after = ((one.meta["headlines"] != "N/A").to_numpy() for one in (whole, half))
    assert before[train].mean() > 0.8
    assert after[train].sum() / before[train].sum() == pytest.approx(0.5, abs=0.12)
    assert (after[~train] == before[~train]).all()
    assert half.meta.drop(*TOLD, "reason_template").equals(whole.meta.drop(*TOLD, "reason_template"))
    lost = half.meta.filter(pl.Series(before & ~after))
    assert set(lost["news_sentiment"]) == {"neutral"}
    assert set(lost["sentiment_confidence"]) == {0.0}
    kept = [row for row in range(len(half.prompts)) if after[row]]
    assert [half.prompts[row] for row in kept] == [whole.prompts[row] for row in kept]
    assert "Headlines: N/A" in half.prompts[int((before & ~after).argmax())]
