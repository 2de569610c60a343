"""Lines of several runs in one drawing: no script draws them, so fifty runs open at once and follow the theme."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from markupsafe import Markup

WIDTH, HEIGHT = 640.0, 260.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 58.0, 8.0, 10.0, 34.0
COLOURS: Final = 8
"""Colours of `compare.css`; from the ninth run on lines repeat them with another dash."""
DASHES: Final = ("", "7 4", "2 3", "9 3 2 3")
POINTS: Final = 160
"""Points of a line at most."""

_FRAME = Markup(
    '<div class="curvebox" id="curves-{name}" tabindex="0" role="application" aria-roledescription="chart" '
    'aria-label="{label}. Left and right arrow: from point to point; up and down: another line">'
    '<svg class="curves" viewBox="0 0 {width:.0f} {height:.0f}" aria-hidden="true" data-frame="{frame}" '
    'data-x="{x0!r} {x1!r}" data-y="{y0!r} {y1!r}" data-across="{across}"{share}>{grid}{lines}</svg></div>'
    '<p class="readout" aria-live="polite"></p>'
    '<details class="numbers-of"><summary>As a table<span class="hidden">: {label}</span></summary></details>'
)
"""`curves.js` reads the numbers back from the places of the points, so that they stand in the page once."""
_RULE = Markup(
    '<line class="rule" x1="{x1:.1f}" x2="{x2:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
    '<text x="{x:.1f}" y="{below:.1f}" text-anchor="end">{text}</text>'
)
_TICK = Markup('<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>')
_LINE = Markup(
    '<polyline class="s{colour}" data-run="{run}" points="{points}" stroke-dasharray="{dash}"><title>{name}</title>'
    "</polyline>"
)
_DOT = Markup(
    '<circle class="s{colour}" data-run="{run}" cx="{x:.2f}" cy="{y:.2f}" r="{r:.1f}"><title>{name}</title></circle>'
)


@dataclass(frozen=True, slots=True)
class Curve:
    """A run's line.

    Attributes:
        run: its place among the runs, which gives colour and dash.
        name: the run's.
        points: (x, y), by x.
    """

    run: int
    name: str
    points: Sequence[tuple[float, float]]


def curves(
    lines: Sequence[Curve],
    *,
    name: str,
    label: str,
    across: str,
    share: bool = False,
    diagonal: bool = False,
) -> Markup:
    """The drawing; empty where no line has a point.

    Args:
        lines: of the runs.
        name: the drawing's, unique on its page.
        label: what it shows, for those who cannot see it.
        across: name of the horizontal axis.
        share: whether the vertical axis has shares, shown as per cent.
        diagonal: whether both axes are shares and their equality is drawn.
    """
    drawn = [(line, [point for point in line.points if all(map(math.isfinite, point))]) for line in lines]
    every = [point for _, points in drawn for point in points]
    if not every:
        return Markup("")
    if diagonal:
        every += [(0.0, 0.0), (1.0, 1.0)]
    xs, (ys, ticks, digits) = _span(x for x, _ in every), _scale(_span(y for _, y in every), share=share)

    def at(point: tuple[float, float]) -> tuple[float, float]:
        across_share = (point[0] - xs[0]) / (xs[1] - xs[0])
        up = (point[1] - ys[0]) / (ys[1] - ys[0])
        return _LEFT + across_share * (WIDTH - _LEFT - _RIGHT), HEIGHT - _BOTTOM - up * (HEIGHT - _TOP - _BOTTOM)

    marks = [_line(line, [at(point) for point in _thin(points)]) for line, points in drawn if points]
    if diagonal:
        ends = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at((0.0, 0.0)), at((1.0, 1.0))))
        marks.insert(0, Markup('<polyline class="rule" points="{}"/>').format(ends))
    show = f"{{:.{max(0, digits - 2)}%}}" if share else f"{{:.{digits}f}}"
    levels = [_level(value, at((xs[0], value))[1], show.format) for value in ticks]
    grid = Markup("").join([*levels, *_ends(xs, across)])
    return _FRAME.format(
        name=name,
        label=label,
        width=WIDTH,
        height=HEIGHT,
        frame=f"{_LEFT:.0f} {_TOP:.0f} {WIDTH - _RIGHT:.0f} {HEIGHT - _BOTTOM:.0f}",
        x0=xs[0],
        x1=xs[1],
        y0=ys[0],
        y1=ys[1],
        across=across,
        share=Markup(" data-share") if share else "",
        grid=grid,
        lines=Markup("").join(marks),
    )


def _span(values: Iterable[float]) -> tuple[float, float]:
    found = list(values)
    low, high = min(found), max(found)
    pad = (high - low) * 0.04 or abs(high) * 0.04 or 1.0
    return (low, high) if high > low else (low - pad, high + pad)


def _thin(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """At most `POINTS` of them, each the mean of its stretch."""
    if len(points) <= POINTS:
        return points
    edges = [round(k * len(points) / POINTS) for k in range(POINTS + 1)]
    parts = [points[low:high] for low, high in pairwise(edges)]
    return [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in parts]


def _line(line: Curve, places: Sequence[tuple[float, float]]) -> Markup:
    colour, dash = line.run % COLOURS, DASHES[line.run // COLOURS % len(DASHES)]
    if len(places) == 1:
        return _DOT.format(colour=colour, run=line.run, x=places[0][0], y=places[0][1], r=4, name=line.name)
    points = " ".join(f"{x:.2f},{y:.2f}" for x, y in places)
    return _LINE.format(colour=colour, run=line.run, points=points, dash=dash, name=line.name)


def _scale(span: tuple[float, float], *, share: bool) -> tuple[tuple[float, float], list[float], int]:
    """The axis from one round number to another, the round numbers on it (at most eight), their decimals."""
    low, high = span
    digits = -math.floor(math.log10((high - low) / 3))
    step = 10.0**-digits * next(size for size in (1, 2, 5, 10) if size * 10.0**-digits * 5.5 >= high - low)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = [round(k * step, 12) for k in range(first, last + 1)]
    if share:
        ticks = [value for value in ticks if 0 <= value <= 1]  # a share has no other values
    decimals = max(0, digits if step < 9.5 * 10.0**-digits else digits - 1)
    return (ticks[0], ticks[-1]), ticks, decimals


def _level(value: float, y: float, show: Callable[[float], str]) -> Markup:
    return _RULE.format(x1=_LEFT, x2=WIDTH - _RIGHT, y=y, x=_LEFT - 6, below=y + 4, text=show(value))


def _ends(xs: tuple[float, float], across: str) -> list[Markup]:
    y = HEIGHT - 10
    places = (
        (_LEFT, "start", f"{xs[0]:.3g}"),
        ((_LEFT + WIDTH) / 2, "middle", across),
        (WIDTH - _RIGHT, "end", f"{xs[1]:.4g}"),
    )
    return [_TICK.format(x=x, y=y, anchor=anchor, text=text) for x, anchor, text in places]
