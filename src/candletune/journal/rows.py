"""A journal row and its two sides: the one place that knows the JSON."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal, Required, TypedDict, cast

from candletune.decisions import DECISIONS, Decision
from candletune.errors import InputError
from candletune.journal.roles import Role

SCHEMA: Final = 1
SIDES: Final = tuple(role.side for role in Role)
STATUSES: Final = ("ok", "invalid", "skipped", "error")
Status = Literal["ok", "invalid", "skipped", "error"]
Mode = Literal["replay", "shadow"]


class DuplicateRow(InputError):
    """The journal already holds a row of this ticker and decision time."""


class SideRecord(TypedDict, total=False):
    """A side as it stands in the file; what foreign journals leave out is missing."""

    status: Required[Status]
    action: Decision | None
    reasoning: str | None
    probabilities: Mapping[Decision, float] | None
    latency_ms: float | None
    adapter_sha256: str | None
    error: str | None


class RowRecord(TypedDict, total=False):
    """A row as it stands in the file.

    `prompt` is in review samples only, where a person wrote it.
    """

    schema: Required[int]
    timestamp: Required[str]
    ticker: Required[str]
    price: Required[float]
    mode: Mode
    late: bool
    forced: bool
    prompt_sha256: str
    template_sha256: str
    base_sha256: str
    active: Required[SideRecord]
    shadow: Required[SideRecord]
    prompt: str


@dataclass(frozen=True, slots=True)
class Side:
    """What one model did in a cycle.

    Attributes:
        status: ok, invalid (an answer that does not parse), skipped (not asked) or error (asked, no answer).
        action: the decision; present exactly when the status is ok.
        reasoning: the sentence, when one was generated.
        probabilities: of BUY, SELL and HOLD, when they were computed.
        latency_ms: milliseconds from asking to the answer.
        adapter_sha256: the adapter's hash; None for the bare base.
        error: what went wrong, in one line.
    """

    status: Status
    action: Decision | None = None
    reasoning: str | None = None
    probabilities: Mapping[Decision, float] | None = None
    latency_ms: float | None = None
    adapter_sha256: str | None = None
    error: str | None = None

    def __post_init__(self) -> None:
        if self.status not in STATUSES or (self.action in DECISIONS) != (self.status == "ok"):
            raise ValueError(f"a side with status {self.status!r} can't carry the action {self.action!r}")

    def record(self) -> SideRecord:
        """The JSON object of this side."""
        return {
            "status": self.status,
            "action": self.action,
            "reasoning": self.reasoning,
            "probabilities": self.probabilities,
            "latency_ms": self.latency_ms,
            "adapter_sha256": self.adapter_sha256,
            "error": self.error,
        }


@dataclass(frozen=True, slots=True)
class Row:
    """One cycle of one ticker.

    Attributes:
        timestamp: the decision time (the candle's close), with a time zone.
        late: the candle was caught up after a pause, so the active answer came too late to act on.
        forced: part of a replay over rows the training saw.
    """

    timestamp: datetime
    ticker: str
    price: float
    prompt_sha256: str
    template_sha256: str
    base_sha256: str
    active: Side
    shadow: Side
    mode: Mode = "shadow"
    late: bool = False
    forced: bool = False

    def __post_init__(self) -> None:
        if self.timestamp.tzinfo is None or not self.ticker:
            raise ValueError(f"a row needs a ticker and a time with a zone, got {self.ticker!r} {self.timestamp!r}")

    def line(self) -> bytes:
        """The row as one JSON line with its newline; `ValueError` when a number is not finite."""
        value: RowRecord = {
            "schema": SCHEMA,
            "timestamp": format_time(self.timestamp),
            "ticker": self.ticker,
            "price": self.price,
            "mode": self.mode,
            "late": self.late,
            "forced": self.forced,
            "prompt_sha256": self.prompt_sha256,
            "template_sha256": self.template_sha256,
            "base_sha256": self.base_sha256,
            "active": self.active.record(),
            "shadow": self.shadow.record(),
        }
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"


@dataclass(slots=True)
class Problems:
    """What a reader met and left out, counted; `notes` has the first few with their line numbers."""

    torn: int = 0
    broken: int = 0
    duplicates: int = 0
    notes: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.torn or self.broken or self.duplicates)

    def add(self, kind: Literal["torn", "broken", "duplicates"], note: str) -> None:
        """Count one problem."""
        setattr(self, kind, getattr(self, kind) + 1)
        if len(self.notes) < 20:
            self.notes.append(note)


def format_time(time: datetime) -> str:
    """ISO 8601 in UTC with a trailing Z."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def parse_time(text: str) -> datetime:
    """The inverse of `format_time`; `ValueError` for a time without a zone."""
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return time.astimezone(UTC)


def check_row(value: Any) -> RowRecord:
    """The row, when it has what every reader relies on; else `ValueError` that says what is wrong."""
    if not isinstance(value, dict):
        raise ValueError("expected an object")
    if value.get("schema") != SCHEMA:
        raise ValueError(f"schema {value.get('schema')!r}, expected {SCHEMA}")
    if not isinstance(value.get("ticker"), str) or not isinstance(value.get("timestamp"), str):
        raise ValueError("ticker or timestamp is missing")
    parse_time(value["timestamp"])
    price = value.get("price")
    if isinstance(price, bool) or not isinstance(price, int | float) or not math.isfinite(price):
        raise ValueError(f"price {price!r} is not a number")
    for name in SIDES:
        side = value.get(name)
        if not isinstance(side, dict) or side.get("status") not in STATUSES:
            raise ValueError(f"{name} has no status")
        if (side.get("action") in DECISIONS) != (side["status"] == "ok"):
            raise ValueError(f"{name} has status {side['status']!r} and action {side.get('action')!r}")
    return cast(RowRecord, value)
