"""A journal row and its two sides: the one place that knows the JSON."""

import json
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal, Required, TypedDict, cast

from candletune.decisions import DECISIONS, Decision
from candletune.errors import InputError
from candletune.journal.roles import Role

SCHEMA: Final = 2
"""Of the rows written: 2 has a checksum; 1 had none, and is read."""
_UNSEALED: Final = 1
_SEAL: Final = re.compile(rb',"crc32":"([0-9a-f]{8})"\}\r?\Z')
SIDES: Final = tuple(role.side for role in Role)
STATUSES: Final = ("ok", "invalid", "skipped", "error")
Status = Literal["ok", "invalid", "skipped", "error"]
Mode = Literal["replay", "shadow"]


class DuplicateRow(InputError):
    """The journal already holds a row of this ticker and decision time."""


class OtherSchema(ValueError):
    """A row that is whole, and of a version that this candletune does not know."""


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
        """One JSON line with its newline; `ValueError` for a number that is not finite and for half a character."""
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
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return sealed(text.encode()) + b"\n"


def sealed(text: bytes) -> bytes:
    """A JSON object with its checksum as the last key: the CRC-32 of all the bytes before it."""
    body = text.removesuffix(b"}")
    return body + b',"crc32":"%08x"}' % zlib.crc32(body)


def has_seal(line: bytes) -> bool:
    """Whether a line ends in its checksum.

    Raises:
        ValueError: it ends in another one.
    """
    found = _SEAL.search(line)
    if found is None:
        return False
    if zlib.crc32(line[: found.start()]) != int(found[1], 16):
        raise ValueError("its checksum says that bytes were changed")
    return True


@dataclass(slots=True)
class Problems:
    """What a reader met and left out, counted; `notes` has the first few with their line numbers.

    `unchecked` rows are read: they are from before there were checksums, or another program's.
    """

    torn: int = 0
    broken: int = 0
    duplicates: int = 0
    unchecked: int = 0
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
    """The inverse of `format_time`; `ValueError` for a time without a zone, or outside the calendar in UTC."""
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{text!r} is outside the calendar") from None


def parse_line(line: bytes) -> tuple[RowRecord, bool]:
    """A line's row, and whether it has a checksum that holds.

    Raises:
        OtherSchema: it is a later candletune's.
        ValueError: it is no row, or was changed since it was written; nothing else, whatever the bytes are.
    """
    checked = has_seal(line)
    try:
        value = json.loads(line.decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if isinstance(value, dict):
        schema = value.get("schema", SCHEMA)
        if schema not in (_UNSEALED, SCHEMA) or type(schema) is not int:
            raise OtherSchema(f"schema {shortened(schema)}, expected at most {SCHEMA}")
        if schema != _UNSEALED and not checked:
            raise ValueError("its checksum is missing")
    return check_row(value), checked


def check_row(value: Any) -> RowRecord:
    """The row, when it has what every reader relies on; else `ValueError` that says what is wrong."""
    if not isinstance(value, dict):
        raise ValueError("expected an object")
    if not isinstance(value.get("ticker"), str) or not isinstance(value.get("timestamp"), str):
        raise ValueError("ticker or timestamp is missing")
    parse_time(value["timestamp"])
    if not _is_number(value.get("price")):
        raise ValueError(f"price {shortened(value.get('price'))} is not a number")
    _check_kinds(value, _TEXTS, _FLAGS, ())
    for name in SIDES:
        side = value.get(name)
        if not isinstance(side, dict) or side.get("status") not in STATUSES:
            raise ValueError(f"{name} has no status")
        _check_kinds(side, _SIDE_TEXTS, (), ("latency_ms",))
        if (side.get("action") in DECISIONS) != (side["status"] == "ok"):
            raise ValueError(f"{name} has status {side['status']!r} and action {shortened(side.get('action'))}")
        chances = side.get("probabilities")
        if chances is not None:
            if not isinstance(chances, dict):
                raise ValueError(f"{name} has probabilities that are no object")
            _check_kinds(chances, (), (), DECISIONS)
    return cast(RowRecord, value)


_TEXTS: Final = ("timestamp", "ticker", "mode", "prompt_sha256", "template_sha256", "base_sha256")
_FLAGS: Final = ("late", "forced")
_SIDE_TEXTS: Final = ("status", "action", "reasoning", "adapter_sha256", "error")


def _check_kinds(value: Mapping[str, Any], texts: Sequence[str], flags: Sequence[str], numbers: Sequence[str]) -> None:
    """What may be missing or null must else be of its kind: a frame has one kind a column."""
    for name in texts:
        text = value.get(name)
        if text is not None and not isinstance(text, str):
            raise ValueError(f"{name} {shortened(text)} is not a text")
        if text is not None and not text.isascii():
            text.encode()  # half a character is a UnicodeEncodeError, which is a ValueError
    for name in flags:
        if not isinstance(value.get(name), bool | None):
            raise ValueError(f"{name} {shortened(value.get(name))} is not true or false")
    for name in numbers:
        if value.get(name) is not None and not _is_number(value[name]):
            raise ValueError(f"{name} {shortened(value[name])} is not a number")


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False


def shortened(value: Any) -> str:
    """A value from a file for a message."""
    if isinstance(value, dict | list):
        return f"({type(value).__name__})"
    try:
        text = ascii(value)
    except ValueError:  # a number of thousands of digits
        return "(a huge number)"
    return text if len(text) <= 60 else f"{text[:60]}..."
