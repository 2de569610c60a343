"""The shape of a prompt field: what each module of this package fills in."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from candletune.config import DataConfig
from candletune.fields.keys import Key
from candletune.market.candles import Candles
from candletune.market.sentiment import Sentiment

Context = Mapping[str, Any]
"""Context key -> raw value, None where it is missing."""
Shown = Mapping[str, Any]
"""Template name -> what the prompt shows: a text, or a flag to choose a wording by."""
Leaning = Literal["bull", "bear", "neutral"]
Judge = Callable[["re.Match[str]", Context, Shown], bool]
NOT_AVAILABLE = "N/A"


@dataclass(frozen=True, slots=True)
class CandleColumns:
    """Numbers computed over all candles of a pair; a row whose numbers are not all known is left out.

    Attributes:
        names: of the columns.
        compute: from ascending candles (date, open, high, low, close, volume) and the candles in 24 hours, to a series
            or expression for each name. Row t may depend on rows up to t only.
    """

    names: tuple[str, ...]
    compute: Callable[[pl.DataFrame, int], Mapping[str, pl.Series | pl.Expr]]


@dataclass(frozen=True, slots=True)
class RowColumns:
    """Texts added to some rows of one pair, since they cost too much for all of them.

    Attributes:
        names: of the columns.
        describe: adds them to rows with `decision_time` and every candle column.
    """

    names: tuple[str, ...]
    describe: Callable[[pl.DataFrame, Candles, DataConfig], pl.DataFrame]


@dataclass(frozen=True, slots=True)
class ContextColumns:
    """Context from outside, joined as of the decision time; a placeholder stands where nothing is known.

    Attributes:
        names: of the columns.
        source: the `data.*` key that names the file.
        join: adds them to rows with `decision_time`.
    """

    names: tuple[str, ...]
    source: str
    join: Callable[[pl.DataFrame, Sentiment, DataConfig], pl.DataFrame]


@dataclass(frozen=True, slots=True)
class Fact:
    """One field's state in a row: which side it speaks for, and how to say it.

    Every phrase is singular and true of the row, and its claims are found by the field's checks.
    """

    topic: str
    side: Leaning
    phrases: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Check:
    """A kind of claim and whether it holds.

    Attributes:
        words: lower case; one must occur before the pattern is tried (a plain search is far faster).
        pattern: the claim in a sentence, upper and lower case alike.
        judge: whether a match holds, from the raw values and the displayed ones.
    """

    words: tuple[str, ...]
    pattern: "re.Pattern[str]"
    judge: Judge


@dataclass(frozen=True, slots=True)
class Feature:
    """A number the baselines' classifiers read.

    Attributes:
        name: of the feature.
        value: from candle columns and `close`; the same scale for every coin.
    """

    name: str
    value: pl.Expr


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """All there is to know of one prompt field.

    Attributes:
        name: short and unique; a fact's topic.
        source: formula and where it comes from, for people.
        keys: what a context carries of it.
        display: template names and their texts, from a context that may lack anything.
        order: fields are listed by it and then by name. It decides the order of columns, facts and features, so that
            a seed gives the same reasons; a new field comes last by default.
        columns: how a market row gets its values.
        fact: what a row shows, or None when that is nothing (or unknown).
        checks: every claim that can be made of it.
        known_as: names in free wording that the grounding checker would else take for inventions, such as "ADX".
        features: what the baselines read; empty when they do not.
    """

    name: str
    source: str
    keys: tuple[Key, ...]
    display: Callable[[Context], Shown]
    order: int = 1000
    columns: tuple[CandleColumns | RowColumns | ContextColumns, ...] = ()
    fact: Callable[[Context, Shown], Fact | None] | None = None
    checks: tuple[Check, ...] = ()
    known_as: tuple[str, ...] = ()
    features: tuple[Feature, ...] = ()


def check(words: str, pattern: str, judge: Judge) -> Check:
    """A `Check` from words separated by blanks and a pattern's text."""
    return Check(tuple(words.split()), re.compile(pattern, re.IGNORECASE), judge)


def number_text(value: float | None, spec: str, unit: str = "") -> str:
    """A number by its format specification, or N/A."""
    return NOT_AVAILABLE if value is None else f"{value:{spec}}{unit}"
