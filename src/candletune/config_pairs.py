"""`data.pairs` as patterns: every pair whose candle file lies in the data folder and whose name fits."""

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

ALL = "all"
_FILE = re.compile(
    r"(?P<base>[^_-]+)_(?P<quote>[^_-]+)(?:_(?P<settle>[^_-]+))?-(?P<timeframe>[0-9]+[mhdwM])(?:-futures)?"
    r"\.(?:feather|parquet|json|json\.gz|csv)"
)
"""freqtrade's names; contracts with a delivery date have another form, and end."""


def is_pattern(name: str) -> bool:
    """Whether a name of `data.pairs` stands for several: `all`, or one with `*`, `?` or `[..]`."""
    return name == ALL or any(mark in name for mark in "*?[")


def matching_pairs(names: Sequence[str], folder: Path, timeframe: str) -> tuple[str, ...]:
    """The names, patterns replaced by the pairs that they fit, by name; a pattern that fits none stays.

    A market of perpetual futures stands for the spot market of the same two currencies, as it does where candles are
    read.

    Args:
        names: of `data.pairs`.
        folder: freqtrade's data folder, or its futures/.
        timeframe: whose files count.
    """
    if not any(map(is_pattern, names)):
        return tuple(names)
    there = _without_spot(_pairs_in(folder, timeframe))
    found: list[str] = []
    for name in names:
        fitting = (
            [pair for pair in there if fnmatchcase(pair, "*" if name == ALL else name)] if is_pattern(name) else []
        )
        found += [pair for pair in fitting or [name] if pair not in found]
    return tuple(found)


def _pairs_in(folder: Path, timeframe: str) -> list[str]:
    files = [path.name for place in (folder, folder / "futures") if place.is_dir() for path in place.iterdir()]
    matches = [match for name in files if (match := _FILE.fullmatch(name)) and match["timeframe"] == timeframe]
    return sorted({_pair(match) for match in matches})


def _pair(match: re.Match[str]) -> str:
    plain = f"{match['base']}/{match['quote']}"
    return f"{plain}:{match['settle']}" if match["settle"] else plain


def _without_spot(pairs: Iterable[str]) -> list[str]:
    known = list(pairs)
    futures = {pair.partition(":")[0] for pair in known if ":" in pair}
    return [pair for pair in known if ":" in pair or pair not in futures]
