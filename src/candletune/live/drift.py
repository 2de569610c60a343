"""The watch over a promoted model: is it still as good as when it was judged, and is it asked the same things?

The model that it replaced goes on in the shadow. Every day outcomes are joined to the rows since the promotion; what is
watched, and at which limit an alarm is raised, is in `evaluation.drift`. A year's error budget is shared out below.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import polars as pl

from candletune.artifacts import DriftReference, DriftReport, DriftWatch, ServedModel
from candletune.config import Config
from candletune.evaluation.drift import Series, alarm_limit, follow, series_of
from candletune.evaluation.outcomes import join_outcomes
from candletune.evaluation.stamps import on_the_grid
from candletune.evaluation.times import Panel, panel_of
from candletune.journal import Problems, read_frame
from candletune.live.inputs import InputWatch
from candletune.live.models import read_state
from candletune.live.reference import reference_path, with_candles
from candletune.runs import RunFolder

SHARES: Final = {"direction": 0.05, "log score": 0.05, "inputs": 0.1}
"""Of `live.false_alarms`, what each may spend in a year. Most is held back: limits that come from one year's deviation
are passed more often than they say, over years of real candles above all (`bench/drift.py`)."""


def chances(config: Config) -> dict[str, float]:
    """Chance of a false alarm within a year, by what is watched."""
    return {name: share * config.live.false_alarms for name, share in SHARES.items()}


def report_path(config: Config) -> Path:
    """How the watch stands, beside `live.state`."""
    return config.live.state.with_name("drift.json")


def read_report(config: Config) -> DriftReport | None:
    """The last look at the model that acts now; None where there was none.

    Raises:
        InputError: a file is broken.
    """
    state, report = read_state(config), DriftReport.read_if_there(report_path(config))
    return report if state is not None and report is not None and _same(report, state.active) else None


def look(config: Config, *, now: datetime | None = None, inputs: InputWatch | None = None) -> DriftReport | None:
    """Look at the rows since the promotion, and write down how the watch stands; None where nothing was promoted.

    Args:
        config: names state, journal and candles.
        now: the present; none: the clock's.
        inputs: what the active model was asked; none: as its file has it.

    Raises:
        InputError: a file is broken.
    """
    state = read_state(config)
    if state is None or state.active.adapter_sha256 is None:
        return None
    now = now or datetime.now(UTC)
    reference = reference_of(config, state.active)
    before = read_report(config)
    days, better, note = 0, None, _missing(reference)
    watched: list[DriftWatch] = []
    if reference is not None:
        inputs = inputs or open_inputs(config, reference)
        panel = _panel(config, state.active, reference, now)
        if panel is not None:
            days, watched, better = _judge(config, panel, reference)
        watched += inputs.watched()
    report = DriftReport(
        adapter_sha256=state.active.adapter_sha256,
        name=state.active.name,
        since=state.active.since,
        looked=now.isoformat(timespec="seconds"),
        days=days,
        watched=tuple(watched),
        replaced_better=better,
        note=note,
        told=() if before is None else before.told,
    )
    report.write(report_path(config))
    return report


def reference_of(config: Config, active: ServedModel) -> DriftReference | None:
    """What the active model was certified at; None where nothing was kept."""
    if active.path is None:
        return None
    reference = DriftReference.read_if_there(reference_path(config.live.state.parent / active.path))
    return reference if reference is not None and reference.adapter_sha256 == active.adapter_sha256 else None


def open_inputs(config: Config, reference: DriftReference) -> InputWatch:
    """The counts of what the active model is asked."""
    return InputWatch(config.live.state.with_name("inputs.json"), reference, chances(config)["inputs"])


def _same(report: DriftReport, active: ServedModel) -> bool:
    return (report.adapter_sha256, report.since) == (active.adapter_sha256, active.since)


def _missing(reference: DriftReference | None) -> str:
    if reference is None:
        return "nothing was kept of what it was judged at (promoted by an earlier candletune, or rolled back to)"
    parts = []
    if "direction" not in reference.levels:
        parts.append("its evaluation had too few days with outcomes (60 are needed), so only inputs are watched")
    if not reference.inputs:
        parts.append("its dataset says nothing of the training's ranges, so inputs are not watched")
    return "; ".join(parts)


def _panel(config: Config, active: ServedModel, reference: DriftReference, now: datetime) -> Panel | None:
    """The active model's rows since its promotion, with outcomes; None while none is known."""
    path = config.live.journal
    if not path.is_file():
        return None
    rows = read_frame(path, problems=Problems()).sort("timestamp", "ticker")
    since = datetime.fromisoformat(active.since)
    rows = rows.filter(
        (pl.col("timestamp") > since)
        & (pl.col("active_status") == "ok")
        & (pl.col("active_adapter") == active.adapter_sha256)
    )
    if rows.is_empty():
        return None
    config = with_candles(config, RunFolder(config.run.folder))
    rows, _ = on_the_grid(rows, config)
    replaced = pl.col("shadow_adapter").eq_missing(pl.lit(reference.replaced_sha256, dtype=pl.String))
    theirs = [name for name in rows.columns if name.startswith(("shadow_action", "shadow_p_"))]
    rows = rows.with_columns(
        pl.when(replaced & (pl.col("shadow_status") == "ok")).then(pl.col(name)).alias(name) for name in theirs
    )
    present = None if config.simulate.enabled else now
    scored = join_outcomes(rows, config, candles="optional", now=present)
    return panel_of(scored, config.horizon) if scored["forward_return"].is_not_null().any() else None


def _judge(config: Config, panel: Panel, reference: DriftReference) -> tuple[int, list[DriftWatch], bool | None]:
    """Days, what is watched of the model, and whether the replaced one did better where there is an alarm."""
    move = config.evaluate.move
    lived, theirs = series_of(panel, "active", move), series_of(panel, "shadow", move)
    watched, better = [], None
    for name, series in lived.items():
        level = reference.levels.get(name)
        if level is None or not series.dates:
            continue
        found = follow(series, level, alarm_limit(level, chances(config)[name]))
        watched.append(
            DriftWatch(
                name=name,
                expected=_shown(name, level.mean),
                seen=_shown(name, series.mean(found.began)),
                height=found.height,
                since=series.dates[found.began].isoformat() if found.height else None,
                alarm=None if found.alarm is None else series.dates[found.alarm].isoformat(),
            )
        )
        if found.alarm is not None:
            better = _is_better(theirs["direction"], lived["direction"], found.began)
    return len(lived["direction"].dates), watched, better


def _is_better(replaced: Series, active: Series, first: int) -> bool | None:
    theirs, ours = replaced.mean(first), active.mean(first)
    return None if theirs is None or ours is None else theirs > ours


def _shown(name: str, mean: float | None) -> str:
    if mean is None:
        return "no rows"
    if name == "direction":
        return f"{(1 + mean) / 2:.1%} of BUY and SELL the right way"
    return f"{mean:+.3f} nats a row over the replaced model"
