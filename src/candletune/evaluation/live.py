"""What the shadow's journal shows so far, scored as `evaluate` scores it; nothing is refused, since one only looks."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import polars as pl

from candletune.artifacts.metrics import Comparison
from candletune.config import Config
from candletune.evaluation.compare import compare, days_to_evidence
from candletune.evaluation.metrics import side_metrics
from candletune.evaluation.outcomes import ScoredRow, join_outcomes, score_rows
from candletune.evaluation.over_time import Running, running
from candletune.evaluation.source import latest_models
from candletune.evaluation.stamps import known_candle_files, on_the_grid
from candletune.evaluation.times import times_of
from candletune.evaluation.tries import level_now
from candletune.journal import SIDES, Problems, read_frame

LATEST: Final = 25


@dataclass(frozen=True, slots=True)
class SideView:
    """One model in the journal.

    Attributes:
        statuses, shares: rows by status, answers by decision.
        accuracy: share of its BUY and SELL calls with a known outcome that were right.
        interval: of it; None where it is unknown.
        signals: those calls.
    """

    statuses: dict[str, int]
    shares: dict[str, float]
    accuracy: float | None
    interval: tuple[float, float] | None
    signals: int


@dataclass(frozen=True, slots=True)
class LiveView:
    """A journal at a glance; everything but `path` and `exists` is empty while there is none.

    Attributes:
        rows: of the journal.
        other_models: rows of earlier models among them, which count nowhere else here.
        revision: changes with the journal.
        decided: rows with a known outcome.
        answered: rows both models answered.
        needed: independent signals the verdict wants (`evaluate.min_effective`).
        days_left: days until they and the months are there, and a bound above zero at the gain so far.
        latest: the last rows, newest first, scored.
    """

    path: Path
    exists: bool
    revision: str = "none"
    rows: int = 0
    other_models: int = 0
    late: int = 0
    decided: int = 0
    answered: int = 0
    has_candles: bool = False
    problems: Problems = field(default_factory=Problems)
    first: datetime | None = None
    last: datetime | None = None
    read: datetime | None = None
    sides: dict[str, SideView] = field(default_factory=dict)
    comparison: Comparison | None = None
    needed: int = 0
    days_left: float = 0.0
    confidence: float = 0.0
    running: Running | None = None
    latest: list[ScoredRow] = field(default_factory=list)


@dataclass
class _Cache:
    key: Any = None
    view: LiveView | None = None


_cache = _Cache()


def live_view(config: Config) -> LiveView:
    """Everything the live page shows; computed anew only when the journal or a candle file has changed."""
    path = config.live.journal
    if not path.is_file():
        return LiveView(path, exists=False)
    files = (path, *known_candle_files(config))
    key = (tuple(_state(file) for file in files), config.evaluate, config.labels, config.data, config.seed)
    if _cache.key != key or _cache.view is None:
        _cache.key, _cache.view = key, _look(config, path, has_candles=len(files) > 1)
    return _cache.view


def _state(path: Path) -> tuple[str, int, int]:
    stat = path.stat()
    return str(path), stat.st_mtime_ns, stat.st_size


def _look(config: Config, path: Path, *, has_candles: bool) -> LiveView:
    problems = Problems()
    frame = read_frame(path, problems=problems).sort("timestamp", "ticker")
    view = LiveView(
        path,
        exists=True,
        revision=f"{len(frame)}-{path.stat().st_mtime_ns}",
        rows=len(frame),
        has_candles=has_candles,
        problems=problems,
        read=datetime.now(UTC),
        needed=config.evaluate.min_effective,
        confidence=config.evaluate.confidence,
    )
    if frame.is_empty():
        return view
    mine = latest_models(frame)
    rows, _ = on_the_grid(mine, config)
    scored = score_rows(join_outcomes(rows, config, candles="optional"), config.evaluate.move)
    comparison = compare(scored, config, level_now(scored, config))
    return replace(
        view,
        other_models=len(frame) - len(mine),
        late=int(rows["late"].sum()),
        decided=int(scored["forward_return"].is_not_null().sum()),
        answered=int(((scored["active_status"] == "ok") & (scored["shadow_status"] == "ok")).sum()),
        first=frame["timestamp"][0],
        last=frame["timestamp"][-1],
        sides={side: _side(scored, side, comparison, config) for side in SIDES},
        comparison=comparison,
        days_left=days_to_evidence(comparison, config),
        running=running(times_of(scored, config.horizon), config.evaluate.confidence),
        latest=scored.sort("timestamp", "ticker", descending=True).head(LATEST).to_dicts(),
    )


def _side(scored: pl.DataFrame, side: str, comparison: Comparison, config: Config) -> SideView:
    metrics = side_metrics(scored, side, move=config.evaluate.move, fee=config.evaluate.fee)
    return SideView(
        statuses={name: count for name, count in metrics.status.items() if count},
        shares={name: share for name, share in metrics.shares.items() if share},
        accuracy=metrics.accuracy_signals,
        interval=comparison.sides[side].bounds,
        signals=metrics.signals,
    )
