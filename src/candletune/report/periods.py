"""The periods of a walk as rows of a table."""

from dataclasses import dataclass

from markupsafe import Markup

from candletune.artifacts import PeriodSide, Walk
from candletune.report.svg import strip
from candletune.report.text import points
from candletune.runs import RunFolder


@dataclass(frozen=True, slots=True)
class PeriodRow:
    """One period.

    Attributes:
        name: the day it begins.
        trained: what its training saw, in words.
        rows: decisions.
        shadow, active: figures of candidate and incumbent.
        gain, interval: of BUY/SELL accuracy, in points; empty without calls.
        strip: the same as a picture.
    """

    name: str
    trained: str
    rows: int
    shadow: PeriodSide
    active: PeriodSide
    gain: str
    interval: str
    strip: Markup


def period_rows(run: RunFolder) -> list[PeriodRow]:
    """A walk's periods that have figures; none where the folder is no walk's.

    Raises:
        InputError: the walk's file is broken.
    """
    walk = Walk.read_if_there(run.walk_periods)
    rows = []
    for period in () if walk is None else walk.periods:
        if period.shadow is None or period.active is None:
            continue
        value = None if period.gain is None else period.gain.value
        bounds = None if period.gain is None else period.gain.bounds
        begin = "the first candle" if period.train_start is None else period.train_start[:10]
        rows.append(
            PeriodRow(
                name=f"{period.start[:10]} to {period.end[:10]}",
                trained=f"trained from {begin} on",
                rows=period.rows,
                shadow=period.shadow,
                active=period.active,
                gain=points(value),
                interval="" if bounds is None else f"{points(bounds[0])} to {points(bounds[1])}",
                strip=strip(value, bounds, 0.0, points),
            )
        )
    return rows
