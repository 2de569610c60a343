"""The types that configuration values have: timeframes, UTC times, shares, counts, engines, servers."""

import ipaddress
import re
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from pkgutil import iter_modules
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

TIMEFRAME = re.compile(r"^([1-9][0-9]*)([mhdw])$")
_MINUTES = {"m": 1, "h": 60, "d": 1440, "w": 10080}


@lru_cache(maxsize=64)
def timeframe_minutes(timeframe: str) -> int:
    """Minutes in a freqtrade timeframe such as `1h`, `4h` or `1d`; `ValueError` for anything else."""
    match = TIMEFRAME.match(timeframe)
    if match is None:
        raise ValueError("expected a timeframe such as 15m, 1h, 4h or 1d")
    return int(match[1]) * _MINUTES[match[2]]


def _timeframe(value: str) -> str:
    timeframe_minutes(value)
    return value


def _utc(value: datetime | None) -> datetime | None:
    if value is None:
        return None
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _time(value: object) -> object:
    """ISO 8601 text as a time. A number is none: pydantic would read the year 2025 as seconds since 1970."""
    expected = "expected a time such as 2025-01-31 or 2025-01-31T12:00+00:00 (UTC without a zone)"
    if isinstance(value, int | float):
        raise ValueError(expected)
    if not isinstance(value, str | datetime):
        return value
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else value
        _utc(found)
    except (ValueError, OverflowError):
        raise ValueError(expected) from None
    return found


def _training_engine(value: str) -> str:
    """Engines are the files of training/engines; their names are read without importing them."""
    folder = Path(__file__).parent / "training" / "engines"
    names = ["auto", *sorted(module.name for module in iter_modules([str(folder)]))]
    if value not in names:
        raise ValueError(f"expected one of {', '.join(names)}")  # what was got is said behind it
    return value


def _server_url(value: str) -> str:
    """A server's address without a slash at its end. A password in it would end in logs and manifests."""
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.username is not None or parts.password is not None:
        raise ValueError("no name or password in an address; put the server's key into CANDLETUNE_ENGINE_KEY")
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        raise ValueError("expected an address such as http://127.0.0.1:8080")
    return value.rstrip("/")


def is_loopback(url: str) -> bool:
    """Whether a server's address is on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


Timeframe = Annotated[str, AfterValidator(_timeframe)]
TrainingEngineName = Annotated[str, AfterValidator(_training_engine)]
ServerUrl = Annotated[str, AfterValidator(_server_url)]
UtcTime = Annotated[datetime | None, BeforeValidator(_time), AfterValidator(_utc)]
Share = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[int, Field(ge=1, le=2**31 - 1)]
"""A count; what llama.cpp, torch and numpy take at most."""


class Table(BaseModel):
    """Base of every configuration table: frozen, no unknown keys, every number finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
