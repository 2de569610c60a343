"""The ledger of tries: which verdicts were asked of which candles, so that all of them share one error budget.

A try is a pair of models over rows that begin at one time under one rule. Looking again at the same rows, or at more
that came later, is the same try: its bound holds at all times at once. Whatever else is asked of the same candles is
another one, and gets a smaller part of the budget (`budget.alpha_for`).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout
from pydantic import JsonValue, ValidationError

from candletune.artifacts import JudgedModel
from candletune.artifacts.ledger import LEDGER_LINE, SaidLine, SweepLine, TryLine
from candletune.artifacts.verdict import Source, TrySpent, VerdictName
from candletune.errors import InputError, UsageError
from candletune.evaluation.budget import alpha_for
from candletune.files import append, close, facts, make_folder, open_append, truncate
from candletune.hashes import fingerprint

ANEW = "+"
"""Ends the id of a try whose registration does not hold: other rows, or a second look."""
PATIENCE = 30.0
"""Seconds to wait for another program's line."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a verdict is about to be asked; see `TryLine` for the rest.

    Attributes:
        start, end: of the candles it looks at, the last outcome's included; ISO 8601 in UTC.
        budget: error over all tries.
    """

    candidate: JudgedModel
    incumbent: JudgedModel
    source: Source
    start: str
    end: str
    rows: int
    known: int
    closes: Mapping[str, Mapping[str, float]]
    settings: Mapping[str, JsonValue]
    budget: float
    run: str

    @property
    def try_id(self) -> str:
        """What stays when more rows come: the models, the first decision, the tickers and the rule."""
        models = [self.candidate.adapter_sha256, self.incumbent.adapter_sha256]
        return fingerprint([models, self.start, sorted(self.closes), self.settings])[:16]


@dataclass(frozen=True, slots=True)
class Try:
    """A try as the ledger has it.

    Attributes:
        first, line: its first and its latest.
        registered: the line that registered it before its replay; None when nobody did.
        looks: how often it was looked at with more rows than before.
        verdict: the latest; None while there is none.
    """

    first: TryLine
    line: TryLine
    registered: TryLine | None
    looks: int
    verdict: VerdictName | None


class Ledger:
    """The tries of one file. Any number of programs may use it at once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def tries(self) -> dict[str, Try]:
        """Every try, in the order of their first lines. An unfinished last line is left out: a writer may be at it.

        Raises:
            InputError: a line is broken.
        """
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read ({error.strerror}); check the path") from None
        return self._parse(data[: data.rfind(b"\n") + 1])

    def peek(self, attempt: Attempt) -> TrySpent:
        """What a look would be worth now; nothing is written."""
        return _spent(*_next(attempt, self.tries()))

    def look(self, attempt: Attempt) -> TrySpent:
        """Put a look on record, before anybody knows what it says. The same look again writes nothing.

        Raises:
            InputError: the ledger is broken, or cannot be written.
            UsageError: another program holds it.
        """
        with self._open() as (handle, tries):
            line, registered = _next(attempt, tries)
            known = tries.get(line.try_id)
            if known is None or known.line.event == "registered" or _longer(line, known.line):
                self._append(handle, line)
        return _spent(line, registered)

    def registration(self, attempt: Attempt) -> TrySpent | None:
        """What was registered for these models, rows and rule; None when nothing was."""
        known = self.tries().get(attempt.try_id)
        line = None if known is None else known.registered
        if line is None or (line.rows, line.end) != (attempt.rows, attempt.end):
            return None
        return _spent(line, line)

    def register(self, attempt: Attempt) -> TrySpent:
        """Put a try on record before its replay is run, so that its one look may use the narrower bound.

        Raises:
            UsageError: these models were looked at on these candles already, or another program holds the ledger.
            InputError: the ledger is broken, or cannot be written.
        """
        with self._open() as (handle, tries):
            for entry in tries.values():
                same = (entry.line.candidate.adapter_sha256, entry.line.incumbent.adapter_sha256) == (
                    attempt.candidate.adapter_sha256,
                    attempt.incumbent.adapter_sha256,
                )
                if same and entry.looks and overlap(attempt, entry.line):
                    raise UsageError(
                        f"--register: {attempt.candidate.name} was looked at on these candles already "
                        f"({entry.line.at}, {self.path}); only what nobody has seen can be registered"
                    )
            line = _line(attempt, attempt.try_id, "registered", _before(attempt, tries))
            if attempt.try_id not in tries:
                self._append(handle, line)
        return _spent(line, line)

    def say(self, try_id: str, verdict: VerdictName, reason: str) -> None:
        """Put on record what a look came to; the same verdict again writes nothing."""
        with self._open() as (handle, tries):
            if try_id in tries and tries[try_id].verdict != verdict:
                self._append(handle, SaidLine(try_id=try_id, at=_now(), verdict=verdict, reason=reason))

    def chosen(self, line: SweepLine) -> None:
        """Put on record where a candidate comes from; it spends nothing of the budget.

        Raises:
            UsageError: another program holds the ledger.
            InputError: it is broken, or cannot be written.
        """
        with self._open() as (handle, _):
            self._append(handle, line)

    def _parse(self, data: bytes) -> dict[str, Try]:
        tries: dict[str, Try] = {}
        for number, text in enumerate(data.split(b"\n")[:-1], 1):
            try:
                line = LEDGER_LINE.validate_json(text)
                if isinstance(line, SaidLine):
                    tries[line.try_id] = replace(tries[line.try_id], verdict=line.verdict)
                    continue
                if isinstance(line, SweepLine):
                    continue
            except (ValidationError, KeyError) as error:
                what = "a verdict about no try" if isinstance(error, KeyError) else error.errors()[0]["msg"]
                raise InputError(
                    f"{self.path}:{number}: not a line of the ledger ({what}); put back a copy of the file, or mend it"
                ) from None
            looked = int(line.event == "look")
            known = tries.get(line.try_id)
            if known is None:
                tries[line.try_id] = Try(line, line, None if looked else line, looked, None)
            else:
                tries[line.try_id] = replace(known, line=line, looks=known.looks + looked)
        return tries

    @contextmanager
    def _open(self) -> Iterator[tuple[int, dict[str, Try]]]:
        """The lock held, a handle to append to, and the tries so far; a torn end is cut off and kept beside."""
        make_folder(self.path.parent)
        try:
            with FileLock(self.path.with_name(self.path.name + ".lock"), timeout=PATIENCE):
                try:
                    handle = open_append(self.path)
                except OSError as error:
                    raise self._unwritable(error) from None
                try:
                    data = self.path.read_bytes()
                    whole = data.rfind(b"\n") + 1
                    tries = self._parse(data[:whole])
                    if whole < len(data):
                        self._set_aside(data[whole:])
                        truncate(handle, whole)
                    yield handle, tries
                finally:
                    close(handle)
        except Timeout:
            raise UsageError(f"{self.path}: another program writes to it; try again") from None

    def _set_aside(self, torn: bytes) -> None:
        """An unfinished line was never acknowledged, so no verdict was given for it."""
        side = open_append(self.path.with_name(self.path.name + ".torn"))
        try:
            append(side, torn + b"\n")
        finally:
            close(side)

    def _append(self, handle: int, line: TryLine | SaidLine | SweepLine) -> None:
        size = facts(handle).size
        try:
            append(handle, line.model_dump_json().encode() + b"\n")
        except OSError as error:
            truncate(handle, size)
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> InputError:
        return InputError(
            f"{self.path}: cannot be written ({error.strerror or error}), and no verdict is given off the record; free "
            "space, check its permissions, or set evaluate.ledger"
        )


def overlap(one: Attempt | TryLine, other: TryLine, *, since: str | None = None) -> bool:
    """Whether two tries look at some of the same candles.

    A ticker in common, times in common, and the same closes there. Where no midnight was kept of the common time,
    the candles are taken for the same: the error budget is kept either way.

    Args:
        one: a try.
        other: another one.
        since: only the first one's candles from this time on.
    """
    start = max(map(datetime.fromisoformat, (since or one.start, other.start)))
    end = min(map(datetime.fromisoformat, (one.end, other.end)))
    tickers = one.closes.keys() & other.closes.keys()
    if not tickers or start >= end:
        return False
    pairs = [
        (one.closes[ticker][day], other.closes[ticker][day])
        for ticker in tickers
        for day in one.closes[ticker].keys() & other.closes[ticker].keys()
    ]
    return not pairs or any(one == two for one, two in pairs)


def _next(attempt: Attempt, tries: Mapping[str, Try]) -> tuple[TryLine, TryLine | None]:
    """The line of a look, and the registration that it makes use of."""
    try_id = attempt.try_id
    known = tries.get(try_id)
    if known is None:
        return _line(attempt, try_id, "look", _before(attempt, tries)), None
    registered = known.registered
    if registered is not None:
        first = not known.looks
        same = attempt.rows == registered.rows and attempt.end == registered.end
        if same and (first or attempt.known == known.line.known):
            return _line(attempt, try_id, "look", known.line.counted), registered
        # The narrow bound is for one look at what was registered; anything else is asked anew.
        return _anew(attempt, try_id + ANEW, tries), None
    return _extended(attempt, try_id, known, tries), None


def _anew(attempt: Attempt, try_id: str, tries: Mapping[str, Try]) -> TryLine:
    known = tries.get(try_id)
    if known is None:
        return _line(attempt, try_id, "look", _before(attempt, tries))
    return _extended(attempt, try_id, known, tries)


def _extended(attempt: Attempt, try_id: str, known: Try, tries: Mapping[str, Try]) -> TryLine:
    """The same try over more candles: who was there before it counts."""
    since = known.line.end
    added = {
        other
        for other, entry in tries.items()
        if other != try_id and attempt.end > since and overlap(attempt, entry.line, since=since)
    }
    return _line(attempt, try_id, "look", tuple(sorted({*known.line.counted, *added})))


def _before(attempt: Attempt, tries: Mapping[str, Try]) -> tuple[str, ...]:
    return tuple(try_id for try_id, entry in tries.items() if overlap(attempt, entry.line))


def _longer(line: TryLine, before: TryLine) -> bool:
    """Whether a look knows more than the last one on record."""
    return (line.end, line.rows, line.known) > (before.end, before.rows, before.known)


def _line(attempt: Attempt, try_id: str, event: Literal["registered", "look"], counted: tuple[str, ...]) -> TryLine:
    number = len(counted) + 1
    return TryLine(
        event=event,
        try_id=try_id,
        number=number,
        level=alpha_for(number, attempt.budget),
        budget=attempt.budget,
        counted=counted,
        at=_now(),
        run=attempt.run,
        candidate=attempt.candidate,
        incumbent=attempt.incumbent,
        source=attempt.source,
        start=attempt.start,
        end=attempt.end,
        rows=attempt.rows,
        known=attempt.known,
        closes=attempt.closes,
        settings=attempt.settings,
    )


def _spent(line: TryLine, registered: TryLine | None) -> TrySpent:
    return TrySpent(
        try_id=line.try_id,
        number=line.number,
        level=line.level,
        budget=line.budget,
        registered=None if registered is None else registered.at,
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
