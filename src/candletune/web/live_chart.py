"""The live page's chart as SVG points: running accuracy of both models with their bands."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from candletune.evaluation.over_time import Running

_LEFT: Final = 66.0
_WIDTH: Final = 644.0
_FLOOR: Final = 236.0
_HEIGHT: Final = 216.0
"""The plot lies in a box of 720 x 260; a share of 0 is at the floor, of 1 at the floor minus the height."""


@dataclass(frozen=True, slots=True)
class LiveChart:
    """Points as SVG attributes, by side, and the axis labels with their heights.

    Attributes:
        frame: the plot's place in the box: left, top, right, bottom; for `curves.js`.
    """

    lines: dict[str, str]
    bands: dict[str, str]
    ticks: tuple[tuple[str, str], ...]
    start: datetime
    end: datetime
    frame: str = f"{_LEFT:.0f} {_FLOOR - _HEIGHT:.0f} {_LEFT + _WIDTH:.0f} {_FLOOR:.0f}"

    @property
    def span(self) -> str:
        """From start to end, at least a second."""
        left, right = (int(time.replace(tzinfo=time.tzinfo or UTC).timestamp()) for time in (self.start, self.end))
        return f"{left} {max(right, left + 1)}"


def live_chart(series: Running | None) -> LiveChart | None:
    """Both models' running accuracy; None with too few times for a line."""
    if series is None:
        return None
    start, end = series.time[0], series.time[-1]
    span = (end - start) / timedelta(seconds=1) or 1.0
    x = [f"{_LEFT + _WIDTH * ((time - start) / timedelta(seconds=1)) / span:.1f}" for time in series.time]
    lines, bands = {}, {}
    for side, line in series.sides.items():
        lines[side] = _points(x, line.value)
        bands[side] = f"{_points(x, line.high)} {_points(x[::-1], line.low[::-1])}"
    ticks = tuple((f"{share} %", _y(share / 100)) for share in (0, 25, 50, 75, 100))
    return LiveChart(lines, bands, ticks, start, end)


def _points(x: list[str], shares: list[float]) -> str:
    return " ".join(f"{left},{_y(share)}" for left, share in zip(x, shares, strict=True))


def _y(share: float) -> str:
    return f"{_FLOOR - _HEIGHT * min(1.0, max(0.0, share)):.1f}"
