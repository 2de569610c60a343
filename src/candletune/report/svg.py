"""Small drawings without a script: they print, scale and follow the page's colours."""

from collections.abc import Callable, Sequence
from typing import Any

from markupsafe import Markup

from candletune.report.text import is_number

_WIDTH = 220.0
_STRIP = Markup(
    '<svg class="strip" viewBox="0 0 220 26" role="img" aria-label="{label}">'
    '<line x1="0" x2="220" y1="13" y2="13" stroke="var(--line)"/>{bar}'
    '<line x1="{limit}" x2="{limit}" y1="1" y2="25" stroke="var(--ink)" stroke-width="1.5" stroke-dasharray="3 2"/>'
    '<circle cx="{value}" cy="13" r="5" fill="var(--accent)" stroke="var(--panel)" stroke-width="1.5"/></svg>'
)
_BAR = Markup(
    '<line x1="{low}" x2="{high}" y1="13" y2="13" stroke="var(--soft)" stroke-width="5" stroke-linecap="round" '
    'opacity=".5"/>'
)


def strip(value: Any, bounds: Sequence[float] | None, limit: Any, show: Callable[[Any], str] = str) -> Markup:
    """A value with its interval on a line, and the limit as a dashed tick; empty when there is nothing to draw."""
    if not is_number(value) or not is_number(limit):
        return Markup("")
    ends = [0.0, float(value), float(limit), *(bounds or ())]
    span = (max(ends) - min(ends)) or 1.0
    left, width = min(ends) - 0.06 * span, 1.12 * span

    def x(value: float) -> str:
        return f"{(value - left) / width * _WIDTH:.1f}"

    label = f"value {show(value)}, limit {show(limit)}"
    bar = Markup("")
    if bounds is not None:
        label += f", interval {show(bounds[0])} to {show(bounds[1])}"
        bar = _BAR.format(low=x(bounds[0]), high=x(bounds[1]))
    return _STRIP.format(label=label, bar=bar, limit=x(limit), value=x(value))
