"""The verdict in words, and each criterion as a row with its picture."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from markupsafe import Markup

from candletune.artifacts import Metrics, Verdict, VerdictCriterion
from candletune.report.needs import needs
from candletune.report.svg import strip
from candletune.report.text import is_number, nats, number, percent, points

SENTENCES: Final = {
    "promote": ("Promote the candidate.", "good"),
    "keep": ("Keep the incumbent.", "bad"),
    "not enough evidence": ("Not enough evidence yet.", "wait"),
}
_STATES: Final[dict[bool | None, Literal["pass", "fail", "open"]]] = {True: "pass", False: "fail", None: "open"}


@dataclass(frozen=True, slots=True)
class CriterionView:
    """One criterion: its number, interval and limit in its own unit."""

    name: str
    description: str
    value: str
    limit: str
    interval: str
    kind: str
    state: Literal["pass", "fail", "open"]
    strip: Markup
    decides: bool = True


@dataclass(frozen=True, slots=True)
class VerdictView:
    """What the page's head shows; `passed` and `open` count the criteria that decide, of `deciding` in all.

    `needs` says what it would take to be another verdict.
    """

    sentence: str
    tone: str
    reason: str
    notes: tuple[str, ...]
    criteria: list[CriterionView]
    passed: int
    open: int
    deciding: int = 0
    needs: tuple[str, ...] = ()


def verdict_view(verdict: Verdict, metrics: Metrics) -> VerdictView:
    """The verdict as the page shows it."""
    sentence, tone = SENTENCES[verdict.verdict]
    criteria = [criterion_view(item) for item in verdict.criteria]
    return VerdictView(
        sentence=sentence,
        tone=tone,
        reason=_sentence(verdict.reason),
        notes=verdict.notes,
        criteria=criteria,
        passed=sum(item.decides and item.state == "pass" for item in criteria),
        open=sum(item.decides and item.state == "open" for item in criteria),
        deciding=sum(item.decides for item in criteria),
        needs=tuple(needs(verdict, metrics)),
    )


def criterion_view(item: VerdictCriterion) -> CriterionView:
    """A criterion as the page shows it."""
    show = _FORMATS[item.unit]
    return CriterionView(
        name=item.name,
        description=item.description,
        value=show(item.value),
        limit=f"{item.bound} {show(item.limit)}",
        interval=f"{show(item.interval[0])} to {show(item.interval[1])}" if item.interval else "",
        kind=item.kind,
        state=_STATES[item.passed],
        strip=strip(item.value, item.interval, item.limit, show),
        decides=item.decides,
    )


def _sentence(reason: str) -> str:
    text = reason.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) or not text else ".")


def _count(value: float | None) -> str:
    return number(value, 0 if is_number(value) and abs(value or 0) >= 100 else 1)


_FORMATS: Final[dict[str, Callable[[float | None], str]]] = {
    "points": points,
    "share": percent,
    "count": _count,
    "nats": nats,
}
