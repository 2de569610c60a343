"""What the active model is asked, day by day, against what its training saw: values out of range, values missing."""

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from candletune.artifacts import DriftReference, DriftWatch, FieldRange, InputCount, InputLog
from candletune.errors import InputError
from candletune.evaluation.drift import LEAST_ALLOWED, Outside, outside_limit
from candletune.prompts.context import clean_context
from candletune.prompts.ranges import outside, silent

MOST_ALLOWED = 0.5
"""A key that lay outside its range for more of the judged rows is no news any more, and is left alone."""


class InputWatch:
    """Counts contexts, and bets at each day's end that more of them are strange than the judged ones were.

    Args:
        path: of the counts; those of another model are begun anew.
        reference: what the active model was certified on.
        chance: of a false alarm within a year, over all keys.
    """

    def __init__(self, path: Path, reference: DriftReference, chance: float) -> None:
        self._path, self._reference = path, reference
        known = _read(path, reference.adapter_sha256)
        self._day = known.day if known is not None else ""
        self._counts = {} if known is None else {ticker: dict(counts) for ticker, counts in known.counts.items()}
        keys = sum(
            max(self._allowed(ticker, name)) < MOST_ALLOWED
            for ticker, ranges in reference.inputs.items()
            for name in ranges
        )
        self._limit = outside_limit(2 * keys, chance)

    def add(self, ticker: str, day: date, given: Mapping[str, Any]) -> None:
        """Count a context; a broken one counts nowhere."""
        ranges = self._reference.inputs.get(ticker)
        if ranges is None:
            return
        try:
            context = clean_context({name: value for name, value in given.items() if not name.startswith("_")})
        except InputError:
            return
        if (text := day.isoformat()) > self._day:
            self._close_day()
            self._day = text
        counts = self._counts.setdefault(ticker, {})
        for name, trained in ranges.items():
            value, count = context.get(name), counts.get(name, InputCount())
            counts[name] = count.model_copy(
                update={
                    "rows": count.rows + 1,
                    "outside": count.outside + outside(trained, value),
                    "missing": count.missing + silent(name, value),
                }
            )

    def save(self) -> None:
        """Write the counts, so that a restart goes on with them."""
        InputLog(adapter_sha256=self._reference.adapter_sha256, day=self._day, counts=self._counts).write(self._path)

    def watched(self) -> list[DriftWatch]:
        """Every key whose evidence has begun, or that raised an alarm; the strongest first."""
        found = []
        for ticker, counts in self._counts.items():
            for name, count in counts.items():
                found += self._watches(ticker, name, count)
        return sorted(found, key=lambda watch: -watch.height)

    def _watches(self, ticker: str, name: str, count: InputCount) -> list[DriftWatch]:
        trained = self._reference.inputs[ticker].get(name)
        if trained is None:
            return []
        beyond, missing = self._allowed(ticker, name)
        watches = []
        for kind, allowed, evidence, seen in (
            ("", beyond, count.outside_evidence, count.outside),
            (" missing", missing, count.missing_evidence, count.missing),
        ):
            height = Outside(allowed, evidence).total / self._limit
            alarm = count.alarm if count.alarm is not None and height >= 1 else None
            if height < 1e-3 and alarm is None:
                continue
            what = _range(trained) if not kind else f"a value in {1 - trained.missing:.0%} of the examples"
            watches.append(
                DriftWatch(
                    name=f"{ticker} {name}{kind}",
                    expected=what,
                    seen=f"{seen} of {count.rows} on {self._day}",
                    height=min(height, 1e6),
                    alarm=alarm,
                    model=False,
                )
            )
        return watches

    def _close_day(self) -> None:
        for ticker, counts in self._counts.items():
            for name, count in counts.items():
                if not count.rows:
                    continue
                beyond, missing = (
                    Outside(allowed, evidence)
                    for allowed, evidence in zip(
                        self._allowed(ticker, name), (count.outside_evidence, count.missing_evidence), strict=True
                    )
                )
                strong = max(
                    beyond.add(count.outside / count.rows) if beyond.allowed < MOST_ALLOWED else 0.0,
                    missing.add(count.missing / count.rows) if missing.allowed < MOST_ALLOWED else 0.0,
                )
                counts[name] = InputCount(
                    outside_evidence=beyond.evidence,
                    missing_evidence=missing.evidence,
                    alarm=count.alarm or (self._day if strong >= self._limit else None),
                )

    def _allowed(self, ticker: str, name: str) -> tuple[float, float]:
        """Shares that are no news: twice those of the judged rows and of training, and never less than a twentieth."""
        trained = self._reference.inputs[ticker].get(name, FieldRange(rows=0, missing=0.0))
        judged = self._reference.allowed.get(ticker, {}).get(name, (0.0, 0.0))
        return (
            min(1.0, max(LEAST_ALLOWED, 2 * judged[0])),
            min(1.0, max(LEAST_ALLOWED, 2 * judged[1], 2 * trained.missing)),
        )


def _read(path: Path, adapter_sha256: str) -> InputLog | None:
    """The counts of this model; a broken file is begun anew, since it holds nothing but statistics."""
    try:
        known = InputLog.read_if_there(path)
    except InputError:
        return None
    return known if known is not None and known.adapter_sha256 == adapter_sha256 else None


def _range(trained: FieldRange) -> str:
    return "no numbers" if trained.low is None or trained.high is None else f"{trained.low:.6g} to {trained.high:.6g}"
