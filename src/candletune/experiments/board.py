"""Which trials are hopeless, told from the curves of all of them: the same, in whatever order they run.

A trial is held against those before it, in the order in which they were asked for. Where trials run side by side, one
before it may be behind: then it is judged only as far as nothing can change any more, and goes on meanwhile.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from candletune.artifacts.sweep import Trial
from candletune.experiments.pruning import Curve, hopeless_at


class Look(Protocol):
    """What a training under way asks."""

    def look(self, place: int, rows_sha256: str, curve: Curve) -> int | None:
        """The step at which it turned out hopeless, if it is certain that it did.

        Args:
            place: in the order of the trials; the first is 0.
            rows_sha256: hash of its eval rows; only trials over the same ones are compared.
            curve: log loss by step, as it was logged so far.
        """


@dataclass(frozen=True, slots=True)
class _Heard:
    """What is known of a trial; `over`: it ended, `stop`: pruned at that step."""

    rows_sha256: str
    curve: Curve
    over: bool = False
    failed: bool = False
    stop: int | None = None


@dataclass(frozen=True, slots=True)
class _Standing:
    """What later trials are held against: a curve up to where its trial was hopeless, and up to which step this, and
    that it was not hopeless before, is certain."""

    rows_sha256: str
    curve: Curve
    sure: float
    stop: int | None


class Board:
    """The curves of a sweep's trials, and the median rule over them."""

    def __init__(self) -> None:
        self._heard: dict[int, _Heard] = {}
        self._settled: list[_Standing | None] = []  # of the first trials, about which nothing changes any more

    def look(self, place: int, rows_sha256: str, curve: Curve) -> int | None:
        """See `Look`."""
        self._heard[place] = _Heard(rows_sha256, curve)
        return self.hopeless(place)

    def ended(self, place: int, trial: Trial, curve: Curve) -> None:
        """A trial is over, and this is its curve."""
        stop = trial.step if trial.state == "pruned" else None
        self._heard[place] = _Heard(trial.rows_sha256, curve, True, trial.state == "failed" or not curve, stop)

    def hopeless(self, place: int) -> int | None:
        """See `Look.look`; of a trial that was heard of."""
        standings = list(self._settled[: place + 1])
        for number in range(len(standings), place + 1):
            heard = self._heard.get(number)
            if heard is None:
                return None  # nothing is certain of those behind a trial whose eval rows are not known yet
            standing = None if heard.failed else _standing(heard, [each for each in standings if each])
            if number == len(self._settled) and heard.over:  # all before it are settled
                self._settled.append(standing)
            standings.append(standing)
        mine = standings[place]
        return None if mine is None else mine.stop


def _standing(heard: _Heard, before: Sequence[_Standing]) -> _Standing:
    same = [each for each in before if each.rows_sha256 == heard.rows_sha256]
    reached = math.inf if heard.over else max(heard.curve, default=-math.inf)
    sure = min([reached, *(each.sure for each in same)])
    stop = heard.stop
    if stop is None:
        known = {step: loss for step, loss in heard.curve.items() if step <= sure}
        stop = hopeless_at(known, [each.curve for each in same])
    if stop is None:
        return _Standing(heard.rows_sha256, heard.curve, sure, None)
    cut = {step: loss for step, loss in heard.curve.items() if step <= stop}
    return _Standing(heard.rows_sha256, cut, math.inf, stop)
