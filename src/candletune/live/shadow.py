"""The shadow loop: the incumbent acts, the candidate is only logged, and nothing it does reaches the active answer.

In a cycle every active answer is handed out first; only then is the candidate asked, row by row, and both go into the
journal. Whatever the candidate does is a status on its side of the row.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from candletune.config import Config
from candletune.console import Reporter
from candletune.decide import Model, Prediction
from candletune.engines import Stopped, base_gguf
from candletune.errors import InputError, UsageError
from candletune.files import make_folder, remove, write_text
from candletune.hashes import sha256_path
from candletune.journal import DuplicateRow, Journal, Row, Side
from candletune.live.lines import told
from candletune.live.models import shadowed_model
from candletune.live.signal import Trader
from candletune.runs import RunFolder

Emit = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Due:
    """A decision that is due.

    Attributes:
        timestamp: the decision time: a candle's close.
        ticker: of what.
        price: as the context has it.
        context: the Signal contract's keys.
        late: it comes too late to act on.
        given: the moment a trader stamped it with, where that was no candle's close.
    """

    timestamp: datetime
    ticker: str
    price: float
    context: Mapping[str, Any]
    late: bool = False
    given: datetime | None = None


class ShadowLoop:
    """Asks both models about every due decision.

    Args:
        trader: the loaded active model.
        journal: where rows go.
        candidate: finds the model in the shadow, anew for each cycle, so that a missing file is a row and no crash.
        base_sha256: of the base GGUF, for the rows.
        emit: receives each active answer as soon as it exists.
        reporter: warnings about the candidate.
        fault: told each new kind of fault of the candidate, once; must return at once.
        after: told behind each cycle which decisions it answered.
        candidate_seconds: one answer of the candidate takes no longer; 0: until `behind` is true.

    Attributes:
        unlogged: rows that the disk refused.
        faults: what went wrong, by kind; the trader's.
        metrics: file that they are written to behind each cycle; None: none.
    """

    def __init__(
        self,
        trader: Trader,
        journal: Journal,
        *,
        candidate: Callable[[], Model],
        base_sha256: str,
        emit: Emit,
        reporter: Reporter,
        candidate_seconds: float = 0,
    ) -> None:
        self.candidate_seconds = candidate_seconds or math.inf
        self.trader, self.journal, self.candidate = trader, journal, candidate
        self.base_sha256, self.emit, self.reporter = base_sha256, emit, reporter
        self.fault: Callable[[str], None] = lambda _: None
        self.after: Callable[[Sequence[Due]], None] = lambda _: None
        self.unlogged = self.written = 0
        self.faults = trader.faults
        self.metrics: Path | None = None
        self.lock: FileLock | None = None
        self._said: set[str] = set()
        self._told: set[str] = set()
        self._asking = journal.path.with_name(journal.path.name + ".asking")
        self._killer = self._asking.read_text(encoding="utf-8") if self._asking.is_file() else ""

    def cycle(self, due: Sequence[Due], *, behind: Callable[[], bool] = lambda: False) -> int:
        """Answer, then ask the candidate, then log. Decisions the journal holds already are passed over.

        Args:
            due: decisions in time order.
            behind: asked before and while the candidate works; once true, its answer is given up and the remaining
                ones are skipped, so that a slow one can't delay the next active answers.

        Returns:
            Rows written.
        """
        fresh = [item for item in due if not self.journal.has(item.ticker, item.timestamp)]
        answers = [self._answer(item) for item in fresh]
        written = 0
        for item, (active, side) in zip(fresh, answers, strict=True):
            shadow = Side("skipped", error="no time left for it") if behind() else self._ask_candidate(item, behind)
            self.faults.count_row(side.status, shadow.status, late=item.late)
            if shadow.status in ("error", "invalid"):
                self._tell_fault(item.ticker, f"{shadow.status}: {shadow.error or 'the answer does not parse'}")
            row = Row(
                timestamp=item.timestamp,
                ticker=item.ticker,
                price=item.price,
                prompt_sha256=active.prompt_sha256,
                template_sha256=self.trader.template_sha256,
                base_sha256=self.base_sha256,
                active=side,
                shadow=shadow,
                late=item.late,
            )
            written += self._log(row)
            self._forget_question()
        self.after(fresh)
        self.written += written
        self._write_metrics()
        return written

    def _log(self, row: Row) -> bool:
        """Whether the row is in the journal now."""
        try:
            self.journal.append(row)
            return True
        except DuplicateRow as error:  # another writer was first
            self.faults.add("journal_duplicate")
            self.reporter.warn(str(error))
        except InputError as error:  # the disk is full, say: what acts goes on, and the candle is asked again later
            self.unlogged += 1
            self.faults.add("journal_unlogged")
            self.reporter.warn(f"{row.ticker}: a row could not be logged: {error}")
            self._tell_fault(row.ticker, f"error: a row could not be logged: {error}")
        return False

    def _write_metrics(self) -> None:
        if self.metrics is None:
            return
        problems = self.journal.problems
        self.faults.reach("journal_broken", problems.broken)
        self.faults.reach("journal_torn", problems.torn)
        try:
            self.faults.write(self.metrics, rows=self.written)
        except (InputError, OSError) as error:  # nothing that acts waits for it
            if str(error) not in self._said:
                self._said.add(str(error))
                self.reporter.warn(f"live.metrics: {error}")

    def close(self) -> None:
        """Let another loop have the journal."""
        if self.lock is not None:
            self.lock.release()

    def _tell_fault(self, ticker: str, kind: str) -> None:
        if kind not in self._told:
            self._told.add(kind)
            self.fault(f"{ticker}: {kind}")

    def _forget_question(self) -> None:
        try:
            remove(self._asking)
        except (InputError, OSError) as error:
            self.reporter.warn(str(error))

    def answer(self, item: Due) -> None:
        """Hand out the active answer alone: nothing is asked of the candidate, and nothing is logged."""
        self._answer(item, logged=False)

    def _answer(self, item: Due, *, logged: bool = True) -> tuple[Prediction, Side]:
        try:
            # The one that acts, whatever the context asks for: a row's side names a model and means it.
            active = self.trader.predict(item.context, model=self.trader.active)
        except Exception as error:  # the boundary: whatever one question does, the next ones are answered
            active = Prediction("error", "", error=told(error))
        where: dict[str, str | float | bool] = {
            "timestamp": item.timestamp.astimezone(UTC).isoformat(),
            "ticker": item.ticker,
            "price": item.price,
            "late": item.late,
        }
        if item.given is not None:
            where["given_timestamp"] = item.given.astimezone(UTC).isoformat()
        if not logged:
            where["logged"] = False
        self.emit({**where, **active.answer()})
        return active, active.side()

    def _ask_candidate(self, item: Due, behind: Callable[[], bool]) -> Side:
        # A candidate that takes the whole process down is found out by the note that outlives it: after the restart
        # this row is not asked again, so a crash costs one row and never loops.
        note = f"{item.ticker} {item.timestamp.isoformat()}"
        if note == self._killer:
            self.reporter.warn(f"candidate: the process ended while it was asked about {note}; not asked again")
            return Side("error", error="the process ended while the candidate was asked")
        limit = time.monotonic() + self.candidate_seconds

        def stop() -> bool:
            return time.monotonic() >= limit or behind()

        try:
            write_text(self._asking, note)
            return self.trader.predict(item.context, model=self.candidate(), stop=stop).side()
        except Stopped:
            if behind():
                return Side("error", error="stopped: the next decision is due, or the program ends")
            return Side("error", error=f"stopped: longer than live.candidate_seconds = {self.candidate_seconds:g}")
        except Exception as error:  # the boundary: whatever it is, it stays on the candidate's side
            text = told(f"{type(error).__name__}: {error}")[:300]
            if text not in self._said:
                self._said.add(text)
                self.reporter.warn(f"candidate: {text}")
            return Side("error", error=text)


def open_loop(config: Config, trader: Trader, *, emit: Emit, reporter: Reporter) -> ShadowLoop:
    """The loop over the configured base, journal and the run's candidate; `close` gives the journal back.

    Raises:
        UsageError: another loop has the journal.
        InputError: the base or the journal cannot be used.
    """
    lock = hold_journal(config.live.journal)
    base = sha256_path(base_gguf(config, RunFolder(config.run.folder)))
    journal = Journal(config.live.journal)
    problems = journal.problems
    if problems.torn:
        reporter.warn(f"{config.live.journal}: {problems.torn} torn lines were set aside in {journal.torn_path}")
    if problems.broken:
        reporter.warn(
            f"{config.live.journal}: {problems.broken} lines are no rows, first: {problems.notes[0]}; "
            "`candletune journal check` names them"
        )
    loop = ShadowLoop(
        trader,
        journal,
        candidate=lambda: shadowed_model(config, RunFolder(config.run.folder)),
        base_sha256=base,
        emit=emit,
        reporter=reporter,
        candidate_seconds=config.live.candidate_seconds,
    )
    loop.lock = lock
    loop.metrics = config.live.metrics
    return loop


def hold_journal(path: Path) -> FileLock:
    """A lock that one loop at a time has, from its start to its end, however it ends.

    Two would both hand out answers, and each would take the other's question to its candidate for one that killed it.

    Raises:
        UsageError: another loop has it.
        InputError: no lock can be had there.
    """
    make_folder(path.parent)
    lock = FileLock(path.with_name(path.name + ".loop"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(
            f"{path}: another `candletune shadow` writes to this journal; stop it, or name another one (live.journal)"
        ) from None
    except OSError as error:
        raise InputError(f"{lock.lock_file}: cannot be locked ({error.strerror}); check its folder") from None
    return lock
