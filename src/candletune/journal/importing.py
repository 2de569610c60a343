"""A foreign A/B log becomes a journal: stamps on candle closes, answers parsed, every line accounted for."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from candletune.artifacts.journal_import import BadLine, JournalImport
from candletune.decisions import DECISIONS, Decision
from candletune.errors import InputError, UsageError
from candletune.files import write_bytes
from candletune.hashes import sha256_bytes
from candletune.journal.foreign import Record, choose_columns, read_log, value_of
from candletune.journal.rows import SIDES, STATUSES, Row, Side
from candletune.market.candles import decision_time
from candletune.prompts.parse import parse_answer

IMPORTED: Final = "imported"
"""In place of every hash: nobody knows which file answered, so no verdict on it is about a file here."""
_QUOTES: Final = ("USDT", "USDC", "BUSD", "USD", "EUR")
_FIRST, _LAST = 1e9, 1e11
"""Stamps that are numbers are seconds since 1970 (2001 to 5138), or else milliseconds."""
_SHOWN: Final = 120


@dataclass(frozen=True, slots=True)
class ImportSettings:
    """How a log is read.

    Attributes:
        tickers: those of data.pairs.
        timeframe: stamps are brought back to the last close of these candles.
        columns: the log's column by field, where the user named one.
        zone: of stamps that say none; empty: such stamps are refused.
        now: later stamps are refused.
    """

    tickers: Sequence[str]
    timeframe: str
    columns: Mapping[str, str]
    zone: str
    now: datetime


@dataclass(frozen=True, slots=True)
class _Parsed:
    """A row, the line and moment it comes from, and its bytes: whatever cannot be written is a bad line too."""

    line: int
    at: datetime
    row: Row
    data: bytes


def import_log(source: Path, output: Path, settings: ImportSettings) -> JournalImport:
    """Write `output` from `source`, and `<output>.import.json` beside it; nothing is written unless all is known.

    Returns:
        What was read, left out, and moved.

    Raises:
        UsageError: the output exists, the zone is unknown, or columns are missing.
        InputError: the source cannot be read, or holds no row.
    """
    if output.exists():
        raise UsageError(f"{output}: exists already; give another --output, or move it away")
    zone = _zone(settings.zone)
    records = read_log(source)
    columns = choose_columns(source, records, settings.columns)
    good: list[_Parsed] = []
    bad: list[BadLine] = []
    for record in records:
        try:
            good.append(_parse(record, columns, settings, zone))
        except (ValueError, OverflowError, RecursionError) as error:
            bad.append(BadLine(line=record.line, problem=" ".join(str(error).split())))
    known = [parsed for parsed in good if parsed.row.ticker in settings.tickers]
    kept = _first_of_each_candle(known)
    if not kept:
        raise InputError(f"{source}: {_why_nothing(bad, good, settings)}")
    moves = [parsed.at - parsed.row.timestamp for parsed in kept]
    summary = JournalImport(
        source=source.name,
        source_sha256=sha256_bytes(source.read_bytes()),
        imported=datetime.now(UTC).isoformat(timespec="seconds"),
        columns=columns,
        timeframe=settings.timeframe,
        zone=settings.zone,
        lines=len(records),
        rows=len(kept),
        moved=sum(move > timedelta(0) for move in moves),
        most_moved_seconds=max(moves).total_seconds(),
        same_candle=len(known) - len(kept),
        other_tickers=Counter(p.row.ticker for p in good if p.row.ticker not in settings.tickers),
        statuses={side: _statuses(kept, side) for side in SIDES},
        bad=tuple(bad),
    )
    summary.write(output.with_name(output.name + ".import.json"))
    write_bytes(output, b"".join(parsed.data for parsed in kept))
    return summary


def _statuses(rows: Sequence[_Parsed], side: str) -> dict[str, int]:
    counts = Counter(getattr(parsed.row, side).status for parsed in rows)
    return {status: counts[status] for status in STATUSES if counts[status]}


def _why_nothing(bad: Sequence[BadLine], good: Sequence[_Parsed], settings: ImportSettings) -> str:
    if bad and not good:
        return f"none of {len(bad)} lines is a row; line {bad[0].line}: {bad[0].problem}"
    if good:
        others = ", ".join(sorted({parsed.row.ticker for parsed in good}))
        return f"only tickers that data.pairs has no pair for ({others}); add theirs, for example with --set data.pairs"
    return "holds no rows; give the log of an A/B test"


def _first_of_each_candle(rows: Sequence[_Parsed]) -> list[_Parsed]:
    """In time order, one row a ticker and candle: the first, the one a trader would have acted on."""
    first: dict[tuple[datetime, str], _Parsed] = {}
    for parsed in sorted(rows, key=lambda parsed: (parsed.at, parsed.line)):
        first.setdefault((parsed.row.timestamp, parsed.row.ticker), parsed)
    return [first[key] for key in sorted(first)]


def _parse(record: Record, columns: Mapping[str, str], settings: ImportSettings, zone: tzinfo | None) -> _Parsed:
    """One row; `ValueError` when the line is none."""
    if record.problem:
        raise ValueError(record.problem)
    values = {field: value_of(record, column) for field, column in columns.items()}
    at = parse_stamp(values["timestamp"], zone)
    if at > settings.now:
        raise ValueError(f"timestamp {values['timestamp']!r} lies in the future")
    sides = {side: parse_side(values[side], values.get(f"{side}_reasoning")) for side in SIDES}
    row = Row(
        timestamp=decision_time(at, settings.timeframe),
        ticker=_ticker(values["ticker"], settings.tickers),
        price=_price(values["price"]),
        prompt_sha256=IMPORTED,
        template_sha256=IMPORTED,
        base_sha256=IMPORTED,
        active=sides["active"],
        shadow=sides["shadow"],
    )
    return _Parsed(record.line, at, row, row.line())


def _zone(name: str) -> tzinfo | None:
    if name.upper() in ("", "UTC", "Z"):
        return UTC if name else None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise UsageError(f"--timezone {name}: no such time zone; give one like UTC or Europe/Stockholm") from None


def parse_stamp(value: Any, zone: tzinfo | None) -> datetime:
    """A moment in UTC from ISO 8601 text, or from seconds or milliseconds since 1970.

    Args:
        value: as the log has it.
        zone: of text that names none.

    Raises:
        ValueError: it is none of these, or has no zone and none is given.
    """
    text = str(value).strip() if value is not None and not isinstance(value, bool) else ""
    if not text:
        raise ValueError("timestamp is missing")
    try:
        number = float(text)
    except ValueError:
        return _from_text(text, zone)
    if not _FIRST <= number < _LAST * 1000:
        raise ValueError(f"timestamp {text} is neither seconds nor milliseconds since 1970")
    return datetime.fromtimestamp(number if number < _LAST else number / 1000, UTC)


def _from_text(text: str, zone: tzinfo | None) -> datetime:
    try:
        moment = datetime.fromisoformat(text.removesuffix(" UTC"))
    except ValueError:
        raise ValueError(f"timestamp {text!r} is no time like 2025-03-01T14:00:00Z") from None
    if text.endswith(" UTC"):
        moment = moment.replace(tzinfo=UTC)
    if moment.tzinfo is None:
        if zone is None:
            raise ValueError(f"timestamp {text!r} says no time zone; say which with --timezone, for example UTC")
        moment = moment.replace(tzinfo=zone)
    return moment.astimezone(UTC)


def _ticker(value: Any, known: Sequence[str]) -> str:
    """`BTC` from `btc`, `BTC-USD`, `BTC/USDT:USDT` or `BTCUSDT`; `ValueError` without one."""
    text = value.strip().upper() if isinstance(value, str) else ""
    for separator in "/-_":
        text = text.partition(separator)[0]
    if not text:
        raise ValueError("ticker is missing")
    if text not in known:
        for quote in _QUOTES:
            if text.removesuffix(quote) in known:
                return text.removesuffix(quote)
    return text


def _price(value: Any) -> float:
    try:
        price = float("nan") if isinstance(value, bool) else float(str(value).strip())
    except ValueError:
        price = math.nan
    if not math.isfinite(price) or price <= 0:
        raise ValueError(f"price {value!r} is not a number above zero")
    return price


def parse_side(value: Any, reasoning: Any = None) -> Side:
    """A model's part of a row: a bare decision, an answer's text, or an object that holds one of them.

    Nothing is skipped, and text that does not parse is invalid: it is never taken for HOLD.

    Args:
        value: as the log has it.
        reasoning: from a column of its own.

    Raises:
        ValueError: an object without a decision, or probabilities that are none.
    """
    reason = str(reasoning).strip() if reasoning else None
    if isinstance(value, str) and value.strip().startswith("{"):
        try:
            value = json.loads(value)
        except ValueError:
            return Side("invalid", adapter_sha256=IMPORTED, error=f"does not parse: {value.strip()[:_SHOWN]}")
    if isinstance(value, Mapping):
        return _from_object(value, reason)
    text = "" if value is None else str(value).strip()
    if not text:
        return Side("skipped", adapter_sha256=IMPORTED)
    decision = _decision(text)
    if decision is not None:
        return Side("ok", decision, reason, adapter_sha256=IMPORTED)
    answer = parse_answer(text)
    if answer.action is None:
        return Side("invalid", adapter_sha256=IMPORTED, error=f"does not parse: {' '.join(text.split())[:_SHOWN]}")
    return Side("ok", answer.action, reason or answer.reasoning, adapter_sha256=IMPORTED)


def _from_object(value: Mapping[str, Any], reason: str | None) -> Side:
    status = value.get("status")
    if status in ("skipped", "error", "invalid"):
        return Side(status, adapter_sha256=IMPORTED, error=str(value.get("error") or "") or None)
    keys = ("action", "decision", "signal", "prediction", "answer", "text", "response")
    decision = next((value[key] for key in keys if value.get(key) is not None), None)
    if decision is None and status is None and not any(key in value for key in keys):
        raise ValueError(f"an object without a decision (keys: {', '.join(map(str, value)) or 'none'})")
    side = parse_side(decision if decision is None or isinstance(decision, str) else str(decision))
    if side.status != "ok":
        return side
    reason = reason or str(value.get("reasoning") or value.get("reason") or "").strip() or side.reasoning
    return Side("ok", side.action, reason, _probabilities(value.get("probabilities")), adapter_sha256=IMPORTED)


def _probabilities(value: Any) -> dict[Decision, float] | None:
    if value is None:
        return None
    if not isinstance(value, Mapping) or {str(key).upper() for key in value} != set(DECISIONS):
        raise ValueError(f"probabilities: expected BUY, SELL and HOLD, got {value!r}")
    numbers = {str(key).upper(): number for key, number in value.items()}
    shares = {name: numbers[name] for name in DECISIONS}
    if not all(isinstance(share, int | float) and 0 <= share <= 1 for share in shares.values()):
        raise ValueError(f"probabilities: expected numbers from 0 to 1, got {value!r}")
    return {name: float(share) for name, share in shares.items()}


def _decision(text: str) -> Decision | None:
    return next((name for name in DECISIONS if name == text.upper()), None)
