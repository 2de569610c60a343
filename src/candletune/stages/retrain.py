"""Train again when enough new candles have come, with the same settings, in the same run folder.

What is new is counted against the candles the last dataset was made from. The test period moves with the candles, so
that new ones reach the training. The replay compares with the adapter that acts; nothing is promoted here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from candletune.artifacts import DatasetManifest
from candletune.config import Config, DatasetConfig, ReplayConfig
from candletune.console import Reporter
from candletune.dataset.period import find_test_period
from candletune.errors import InputError, UsageError
from candletune.files import copy
from candletune.market.candles import find_candle_file, open_times, ticker_of
from candletune.runs import RunFolder
from candletune.stages import STAGES, stage
from candletune.stages.pipeline import run_pipeline
from candletune.stages.runner import StageOutcome, settings_of


@dataclass(frozen=True, slots=True)
class LastTraining:
    """What the run folder says about the training before.

    Attributes:
        until: close of the newest candle its dataset was made from.
        test_start: where its test period begins.
        finished: every stage behind its dataset was done.
        at: when its dataset was finished.
    """

    until: datetime
    test_start: datetime | None
    finished: bool
    at: datetime


def last_training(run: RunFolder) -> LastTraining:
    """The training that the next one follows.

    Raises:
        InputError: there is none, or the run folder's files are broken.
    """
    entries = run.manifest().stages
    if "train" not in entries or "dataset" not in entries:
        raise InputError(f"{run.path}: nothing was trained here yet; run `candletune run` first")
    at = datetime.fromisoformat(entries["dataset"].finished)
    behind = list(STAGES)[list(STAGES).index("dataset") :]
    done = [datetime.fromisoformat(entries[name].finished) for name in behind if name in entries]
    manifest = DatasetManifest.read(run.dataset_manifest)
    return LastTraining(
        # Datasets of older versions do not say it: then the candles that had closed by then.
        until=manifest.candles_until or at,
        test_start=manifest.test_start,
        finished=len(done) == len(behind) and min(done) >= at,
        at=at,
    )


def new_candles(config: Config, since: datetime) -> dict[str, int]:
    """Candles of each ticker that closed after `since`.

    Raises:
        InputError: a candle file is missing or broken.
    """
    counts = {}
    for pair in config.data.pairs:
        times = open_times(find_candle_file(config.data.folder, pair, config.data.timeframe), config.data.timeframe)
        counts[ticker_of(pair)] = int((times + config.candle > since).sum())
    return counts


def retrain(
    config: Config,
    run: RunFolder,
    reporter: Reporter,
    *,
    force: bool = False,
    before: Callable[[Config, list[str]], None] = lambda config, stages: None,
) -> dict[str, StageOutcome] | None:
    """Train again when every pair has `retrain.min_new_candles` new ones; the caller holds the run folder's lock.

    A retraining that was cut off is finished on the candles it began with, unless enough new ones have come by then.

    Args:
        config: the settings; `dataset.test_start` and `replay.start` move as far as the candles grew.
        run: where the last training lies.
        reporter: where to report to.
        force: train however few candles are new.
        before: called with the configuration and the stages that will run, before anything is written.

    Returns:
        The stages' outcomes; None when there was nothing new.

    Raises:
        UsageError: the settings leave nothing to retrain on.
        InputError: nothing was trained here yet, or an input is missing.
    """
    _check(config)
    last = last_training(run)
    counts = new_candles(config, last.until)
    enough = force or min(counts.values()) >= config.retrain.min_new_candles
    shown = ", ".join(f"{ticker} {count}" for ticker, count in counts.items())
    if last.finished and not enough:
        reporter.say(
            f"nothing new: {shown} candles since {_when(last.until)}, fewer than retrain.min_new_candles = "
            f"{config.retrain.min_new_candles}; nothing was done"
        )
        return None
    _warn_of_changes(config, run, reporter)
    if enough:
        reporter.say(f"retraining: {shown} new candles since {_when(last.until)}")
        moved = _moved(config, last, reporter)
        before(moved, list(STAGES))
        if last.finished:
            keep_history(run, last, reporter)
        return run_pipeline(moved, run, reporter)
    reporter.say(f"finishing the retraining that began {_when(last.at)}")
    as_begun = _at(config, last.test_start)
    before(as_begun, [name for name in STAGES if name != "dataset"])
    return run_pipeline(as_begun, run, reporter, without=("dataset",))


def keep_history(run: RunFolder, last: LastTraining, reporter: Reporter) -> Path:
    """Copy what a retraining would overwrite to `history/<time of the last dataset>`; returns that folder."""
    folder = run.history / f"{last.at.astimezone(UTC):%Y%m%dT%H%M%SZ}"
    kept = (
        run.manifest_file,
        run.dataset_manifest,
        run.card,
        run.train_summary,
        run.train_metrics,
        run.certificate,
        run.metrics,
        run.verdict,
        run.report,
    )
    for source in kept:  # the GGUF stays in `gguf/`, the journal in `replay/`
        if source.is_file():
            copy(source, folder / source.relative_to(run.path))
    reporter.say(f"the earlier training's report and figures are kept in {folder}")
    return folder


def _check(config: Config) -> None:
    if config.simulate.enabled:
        raise UsageError("simulate.enabled: a simulated market has no new candles; retrain needs candle files")
    if config.replay.end is not None:
        raise UsageError("replay.end: would keep new candles out of the replay; leave it out to retrain")


def _moved(config: Config, last: LastTraining, reporter: Reporter) -> Config:
    """The test period as far on as the candles grew; the default one moves by itself."""
    configured = config.dataset.test_start
    if configured is None:
        return _at(config, None)
    grown = find_test_period(config).end - last.until
    start = (last.test_start or configured) + max(grown, timedelta(0))
    reporter.warn(
        f"dataset.test_start: moved from {_when(configured)} to {_when(start)}, as far as the candles grew; write that "
        "into the configuration, or leave it out and it moves by itself (`candletune run` would go back)"
    )
    return _at(config, start)


def _at(config: Config, test_start: datetime | None) -> Config:
    """The configuration with that start of the test period, and a replay that begins no earlier."""
    updates: dict[str, DatasetConfig | ReplayConfig] = {}
    if config.dataset.test_start is not None and test_start is not None:
        updates["dataset"] = config.dataset.model_copy(update={"test_start": test_start})
    # A fixed start of the replay would reach into the new training data sooner or later.
    if config.replay.start is not None:
        updates["replay"] = config.replay.model_copy(update={"start": None})
    return config.model_copy(update=updates)


def _warn_of_changes(config: Config, run: RunFolder, reporter: Reporter) -> None:
    """Say which training settings differ from the last training's: a comparison over time then mixes two causes."""
    before = run.manifest().stages["train"].settings
    now = settings_of(config, stage("train").tables)
    changed = [
        f"{table}.{key}"
        for table, values in now.items()
        if isinstance(values, dict) and isinstance(old := before.get(table), dict)
        for key, value in values.items()
        if old.get(key) != value
    ]
    if changed:
        reporter.warn(f"settings differ from the last training's: {', '.join(changed)}")


def _when(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M}"
