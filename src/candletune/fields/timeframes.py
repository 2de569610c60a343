"""RSI and trend of longer timeframes, in one line of text."""

import re

import polars as pl

from candletune.config import DataConfig, timeframe_minutes
from candletune.fields.field import NOT_AVAILABLE, Context, Fact, Field, Leaning, RowColumns, Shown, check
from candletune.fields.keys import text_key
from candletune.fields.wording import first_group
from candletune.market.candles import Candles
from candletune.market.timeframes import add_timeframe_summary

_STATE = re.compile(r"(\d+[mhdw]) (bullish|bearish) RSI (\d+)")
_LIST = r"\d+[mhdw](?:(?:, (?:and )?| and )\d+[mhdw])*"


def timeframe_sides(summary: str) -> dict[str, str]:
    """`{"4h": "bullish", ...}` from a timeframe summary."""
    return {frame: side for frame, side, _ in _STATE.findall(summary)}


def timeframe_rsi(summary: str) -> dict[str, int]:
    """`{"4h": 61, ...}` from a timeframe summary."""
    return {frame: int(rsi) for frame, _, rsi in _STATE.findall(summary)}


def _describe(rows: pl.DataFrame, candles: Candles, data: DataConfig) -> pl.DataFrame:
    # A decision on 4h candles sees its own timeframe in the indicators already.
    own = timeframe_minutes(candles.timeframe)
    longer = tuple(other for other in data.context_timeframes if timeframe_minutes(other) > own)
    return add_timeframe_summary(rows, candles.frame, longer, source=candles.timeframe)


def _display(context: Context) -> Shown:
    return {"timeframe_summary": context.get("timeframe_summary") or NOT_AVAILABLE}


def _fact(context: Context, _: Shown) -> Fact | None:
    """The side most longer timeframes are on; none when they are split."""
    trends = timeframe_sides(context.get("timeframe_summary") or "")
    sides: tuple[tuple[Leaning, str], ...] = (("bull", "bullish"), ("bear", "bearish"))
    for side, word in sides:
        names = [name for name, trend in trends.items() if trend == word]
        if len(names) * 2 > len(trends):
            listed = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
            return Fact("timeframes", side, (f"a {word} {listed} trend", f"a {word} trend on {listed}"))
    return None


def _trend(match: "re.Match[str]", context: Context, _: Shown) -> bool:
    trends = timeframe_sides(context.get("timeframe_summary") or "")
    names = re.findall(r"\d+[mhdw]", match["before"] or match["after"] or match["plain"])
    word = first_group(match, "word1", "word2", "word3")
    return all(trends.get(name) == word for name in names)


FIELD = Field(
    name="timeframes",
    order=70,
    source="RSI(14), EMA(9) over EMA(21) and last change of `data.context_timeframes`, resampled on the UTC grid, of "
    "the last candle that had closed",
    keys=(text_key("timeframe_summary", example="4h bullish RSI 61 (+0.8%) | 1d bearish RSI 44 (-0.2%)"),),
    columns=(RowColumns(("timeframe_summary",), _describe),),
    display=_display,
    fact=_fact,
    checks=(
        check(
            "bullish bearish",
            rf"\b(?P<word1>bullish|bearish) (?P<before>{_LIST}) trend"
            rf"|\b(?P<word2>bullish|bearish) (?:trend )?on (?:the )?(?P<after>{_LIST})"
            rf"|\b(?P<plain>\d+[mhdw])(?: trend)?(?: is| remains)? (?P<word3>bullish|bearish)\b",
            _trend,
        ),
    ),
)
