"""The table of `candletune walk`: a history in periods, a training before each, one verdict over all of them."""

import re
from calendar import monthrange
from datetime import MAXYEAR, UTC, datetime, timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from candletune.config_types import Table, UtcTime

_SPAN = re.compile(r"^([1-9][0-9]{0,3})(d|w|mo|y)$")
_MONTHS = {"mo": 1, "y": 12}
_DAYS = {"d": 1, "w": 7}


def add_span(time: datetime, span: str, times: int = 1) -> datetime:
    """The time so many spans later, or earlier where `times` is negative; the calendar's end where it has no such time.

    Months end where the calendar's do: a month behind 31 January is 28 February.

    Args:
        time: in UTC.
        span: such as `3mo`.
        times: how many.

    Raises:
        ValueError: no span.
    """
    count, unit = _parts(span)
    end = datetime.max.replace(tzinfo=UTC) if times > 0 else datetime.min.replace(tzinfo=UTC)
    if unit in _DAYS:
        days = count * _DAYS[unit] * times
        return time + timedelta(days=days) if abs(days) < abs((end - time).days) else end
    year, month = divmod(time.year * 12 + time.month - 1 + count * _MONTHS[unit] * times, 12)
    if not 1 <= year <= MAXYEAR:
        return end
    return time.replace(year=year, month=month + 1, day=min(time.day, monthrange(year, month + 1)[1]))


def whole_months(span: str) -> bool:
    """Whether a span is one of months or years."""
    return _parts(span)[1] in _MONTHS


def _parts(span: str) -> tuple[int, str]:
    match = _SPAN.match(span)
    if match is None:
        raise ValueError("expected a span such as 10d, 4w, 3mo or 1y")
    return int(match[1]), match[2]


def _span(value: str) -> str:
    _parts(value)
    return value


def _window(value: str) -> str:
    if value != "growing" and _SPAN.match(value) is None:
        raise ValueError("expected growing, or a length such as 12mo")
    return value


class WalkConfig(Table):
    """The walk: a training before each period of the history, and one verdict over all of them."""

    every: Annotated[str, AfterValidator(_span)] = Field(
        "3mo", description="length of a period, which is replayed by a training that ended before it: 10d, 4w, 3mo, 1y"
    )
    start: UtcTime = Field(
        None, description="begin of the first period; none: a third of the history on, at most a year"
    )
    end: UtcTime = Field(None, description="end of the last period; none: the end of the candles")
    window: Annotated[str, AfterValidator(_window)] = Field(
        "growing",
        description="what a training sees: growing (all candles before its period) or the last 12mo, say, before it",
    )
    incumbent: Literal["fixed", "first", "previous"] = Field(
        "fixed",
        description="compared with: the configured incumbent; the first period's training (a single one); or the one "
        "of the period before",
    )
    warm_start: bool = Field(
        False, description="each training goes on from the adapter of the period before; only the first begins anew"
    )
    model: Literal["llm", "boosting"] = Field(
        "llm", description="boosting: gradient boosting stands in for the language model, in seconds a period"
    )
    ray: str = Field(
        "", description="spread periods over a Ray cluster: its address, or auto (a running one, else this machine)"
    )
