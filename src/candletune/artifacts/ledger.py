"""`ledger.jsonl`: every try on a stretch of candles, a line an event; only ever appended to."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, JsonValue, TypeAdapter

from candletune.artifacts.base import Record
from candletune.artifacts.verdict import JudgedModel, Source, VerdictName


class TryLine(Record):
    """A candidate is held against an incumbent over a stretch of candles: registered before, or looked at.

    Attributes:
        version: of the line.
        event: `registered` (before the replay was run) or `look` (a verdict is about to be given).
        try_id: the same for every look of the same models over the same rows, or more of them.
        number: of the try among those on the same candles; 1 for the first.
        level: error that this try may make, part of the budget.
        budget: error that all tries on the same candles may make together.
        counted: the tries that came before it on the same candles.
        at: when, ISO 8601 in UTC.
        run: the run folder.
        candidate, incumbent: the models.
        source: of the rows.
        start, end: first decision, and when the last outcome is known, ISO 8601 in UTC.
        rows, known: decisions, and those with a known outcome.
        closes: ticker -> day -> close at its midnight (UTC), for at most 64 days: whose candles they are.
        settings: what the numbers depend on.
    """

    version: Literal[1] = 1
    event: Literal["registered", "look"]
    try_id: str
    number: int
    level: float
    budget: float
    counted: tuple[str, ...]
    at: str
    run: str
    candidate: JudgedModel
    incumbent: JudgedModel
    source: Source
    start: str
    end: str
    rows: int
    known: int
    closes: Mapping[str, Mapping[str, float]]
    settings: Mapping[str, JsonValue]


class SaidLine(Record):
    """What a look came to."""

    version: Literal[1] = 1
    event: Literal["verdict"] = "verdict"
    try_id: str
    at: str
    verdict: VerdictName
    reason: str


class SweepLine(Record):
    """A sweep named a winner, on the eval split: where a candidate comes from. It is no try, since it looked at nothing
    that is judged; the winner's look is one.

    Attributes:
        at: when, ISO 8601 in UTC.
        sweep: its folder.
        winner: the winner's folder in it.
        trials, finished, pruned, failed: how many were tried, and what they came to.
        settings: that were tried, key in full -> values.
    """

    version: Literal[1] = 1
    event: Literal["sweep"] = "sweep"
    at: str
    sweep: str
    winner: str
    trials: int
    finished: int
    pruned: int
    failed: int
    settings: Mapping[str, JsonValue]


LedgerLine = Annotated[TryLine | SaidLine | SweepLine, Field(discriminator="event")]
LEDGER_LINE: TypeAdapter[TryLine | SaidLine | SweepLine] = TypeAdapter(LedgerLine)
