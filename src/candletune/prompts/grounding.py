"""Read a reason back and say which of its claims hold for the row it was written about.

Used on the dataset's own completions, all of whose claims must hold, and on models' free wording in evaluation. A claim
is something the prompt decides: a cited value, or a word with a bound behind it ("oversold", "bullish crossover",
"above the upper band"). Opinions ("a rise looks likely") are no claims.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from candletune.prompts.context import display_fields
from candletune.prompts.facts import FLAT_CHANGE, rsi_word, timeframe_rsi, timeframe_sides


@dataclass(frozen=True, slots=True)
class Claim:
    """One checkable claim: the words it stands in, and whether it is true of the row."""

    text: str
    holds: bool


Fields = Mapping[str, Any]
Judge = Callable[["re.Match[str]", Fields, Fields], bool]

_N = r"(?P<value>[+-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?)(?![\d.]*\d*(?:h|d|w)\b)"
_ABOUT = r"(?P<about>(?:is |at |of |sits |stands )?(?:near|around|about|roughly|approximately|close to))"
_IS = (
    r"(?:\s+(?:of|at|is|are|was|reads|reading|sits at|stands at|is at|currently at|value of|level of|" + _ABOUT + "))?"
)
_SIGN = r"\s*[:=(]?\s*"
_NOT = r"(?P<no>(?:\bnot|\bno longer|n't|\brather than)\s+(?:yet |quite |an? |in |deeply )*)?"
_FALL = r"loss|drop|decline|fall|dip|decrease"
_RISE = r"gain|rise|increase|advance|rally"
_FRAME_LIST = r"\d+[mhdw](?:(?:, (?:and )?| and )\d+[mhdw])*"


def check_reason(reason: str, context: Mapping[str, Any]) -> list[Claim]:
    """Every claim found in a reason, in reading order.

    Args:
        reason: the sentence after `DECISION: X - `.
        context: Signal-contract context with raw values.

    Returns:
        Claims; empty when the reason claims nothing checkable.
    """
    fields = display_fields(context)
    found = sorted(_matches(reason), key=lambda item: item[0].start())
    return [Claim(match[0].strip(), judge(match, context, fields)) for match, judge in found]


def grounded(reason: str, context: Mapping[str, Any]) -> bool | None:
    """True when every claim holds, False when one does not, None when nothing checkable is claimed."""
    claims = check_reason(reason, context)
    return all(claim.holds for claim in claims) if claims else None


def _matches(reason: str) -> Iterator[tuple["re.Match[str]", Judge]]:
    lower = reason.lower()
    for words, pattern, judge in _CHECKS:
        if any(word in lower for word in words):
            for match in pattern.finditer(reason):
                yield match, judge


def _same_number(cited: str, shown: object, about: str | None = None) -> bool:
    """Equal to what the prompt shows, or that value rounded to fewer decimals; after "near" within a tenth of it."""
    try:
        value, known = float(cited.replace(",", "")), float(str(shown).strip("%").replace(",", ""))
    except ValueError:
        return False
    decimals = len(cited.partition(".")[2].partition("e")[0])
    return abs(value - known) <= max(0.5 * 0.1**decimals, 0.1 * abs(known) if about else 0.0) + 1e-9


def _value_of(name: str) -> Judge:
    def judge(match: "re.Match[str]", _: Fields, fields: Fields) -> bool:
        return _same_number(match["value"], fields[name], match["about"])

    return judge


def _rsi_value(match: "re.Match[str]", context: Fields, fields: Fields) -> bool:
    longer = timeframe_rsi(context.get("timeframe_summary") or "")
    return _same_number(match["value"], longer.get(match["frame"] or "", fields["rsi"]), match["about"])


def _rsi_bound(match: "re.Match[str]", context: Fields, _: Fields) -> bool:
    rsi = context.get("rsi")
    if rsi is None:
        return False
    bound = float(match["bound"])
    return bool(rsi > bound) if match["than"] in ("above", "over") else bool(rsi < bound)


def _rsi_word(match: "re.Match[str]", context: Fields, _: Fields) -> bool:
    rsi = context.get("rsi")
    return rsi is not None and (rsi_word(rsi) == match["word"].lower()) != bool(match["no"])


def _rsi_mood(match: "re.Match[str]", context: Fields, _: Fields) -> bool:
    rsi = context.get("rsi")
    return rsi is not None and rsi_word(rsi) == (match["word"] or match["mark"])


def _ema(match: "re.Match[str]", context: Fields, _: Fields) -> bool:
    bullish = context.get("ema_bullish")
    said = next(word for word in (match["word"], match["other"], match["place"]) if word).lower()
    return bullish is not None and bool(bullish) == (said in ("bullish", "above"))


def _macd(match: "re.Match[str]", context: Fields, _: Fields) -> bool:
    value = context.get("macd_hist") or 0.0
    said = next(word for word in (match["word"], match["other"], match["place"]) if word).lower()
    return value != 0 and (value > 0) == (said in ("positive", "bullish", "above"))


def _band(match: "re.Match[str]", context: Fields, _: Fields) -> bool:
    if match["inside"]:
        return context.get("bb_position") == "inside bands"
    where = {"at": "near", "touching": "near", "over": "above", "under": "below"}.get(match["where"], match["where"])
    return bool(context.get("bb_position") == f"{where} {match['band'].lower()} band")


def _change_word(match: "re.Match[str]", context: Fields, _: Fields) -> bool:
    change = context.get("change_24h")
    if change is None:
        return False
    if match["flat"]:
        return bool(abs(change) < FLAT_CHANGE)
    return bool(change > 0) if re.fullmatch(_RISE, match["word"]) else bool(change < 0)


def _change_value(match: "re.Match[str]", _: Fields, fields: Fields) -> bool:
    cited, shown = match["value"], str(fields["change_24h"])
    # "a 24h loss of 0.71%" carries its sign in the noun, which `_change_word` judges.
    signed = cited[0] in "+-" or match["noun"] == "change"
    return _same_number(cited, shown if signed else shown.lstrip("+-"), match["about"])


def _frames(match: "re.Match[str]", context: Fields, _: Fields) -> bool:
    trends = timeframe_sides(context.get("timeframe_summary") or "")
    names = re.findall(r"\d+[mhdw]", match["before"] or match["after"] or match["plain"])
    said = next(word for word in (match["word1"], match["word2"], match["word3"]) if word).lower()
    return all(trends.get(name) == said for name in names)


def _mood(match: "re.Match[str]", _: Fields, fields: Fields) -> bool:
    return (match["word"] or match["mark"]).lower() == str(fields["fear_greed_class"]).lower()


def _news(match: "re.Match[str]", _: Fields, fields: Fields) -> bool:
    return (match["word"] or match["other"]).lower() == str(fields["news_sentiment"]).lower()


def _unseen(match: "re.Match[str]", _: Fields, fields: Fields) -> bool:
    """Something the prompt never shows: invented, unless a headline speaks of it."""
    return match[0].lower() in str(fields["headlines"]).lower()


def _compiled(*checks: tuple[str, str, Judge]) -> tuple[tuple[tuple[str, ...], "re.Pattern[str]", Judge], ...]:
    """Each check: words of which one must occur (a plain search is far faster than a pattern), pattern, judge."""
    return tuple((tuple(words.split()), re.compile(pattern, re.IGNORECASE), judge) for words, pattern, judge in checks)


_CHECKS = _compiled(
    ("rsi", rf"(?:\b(?P<frame>\d+[mhdw])\s+)?\bRSI(?:\s*\(14\))?{_IS}{_SIGN}{_N}", _rsi_value),
    ("rsi", r"\bRSI(?: is| remains)? (?P<than>above|over|below|under) (?P<bound>\d+(?:\.\d+)?)", _rsi_bound),
    ("over", rf"{_NOT}\b(?P<word>oversold|overbought)\b", _rsi_word),
    ("rsi", r"\b(?P<word>weak|neutral|firm) RSI|\bRSI[^.;,]{0,12}\d \((?P<mark>weak|neutral|firm)\)", _rsi_mood),
    ("macd", rf"\bMACD(?: histogram| hist)?(?:\s+(?:positive|negative))?{_IS}{_SIGN}{_N}", _value_of("macd_hist")),
    (
        "macd",
        r"\b(?P<word>positive|negative|bullish|bearish) MACD"
        r"|\bMACD(?: histogram| hist)?(?: is| turns| remains| stays)? (?P<other>positive|negative|bullish|bearish)\b"
        r"|\bMACD(?: histogram| hist)?(?: is| remains| stays)? (?P<place>above|below) (?:zero|0\b)",
        _macd,
    ),
    ("gap", rf"\bgap{_IS}{_SIGN}{_N}\s*%", _value_of("ema_gap_pct")),
    (
        "ema cross",
        r"\b(?P<word>bullish|bearish) (?:EMA|(?:moving average )?cross(?:over)?\b)"
        r"|\bEMAs?(?: cross(?:over)?| trend| alignment)?(?: is| are| remains?| stays?)? (?P<other>bullish|bearish)\b"
        r"|\bfast EMA (?:is )?(?P<place>above|below) the slow",
        _ema,
    ),
    (
        "band",
        r"\b(?P<where>above|below|near|at|touching|over|under) (?:the |its )?(?P<band>upper|lower)"
        r"(?: Bollinger)? bands?\b|\b(?P<inside>inside|within) (?:the )?(?:Bollinger )?bands",
        _band,
    ),
    ("24h", rf"\b24h (?P<word>{_FALL}|{_RISE})\b|\b(?P<flat>flat|quiet) 24h", _change_word),
    ("24h", rf"\b24h (?P<noun>change|{_FALL}|{_RISE}){_IS}{_SIGN}{_N}\s*%", _change_value),
    (
        "bullish bearish",
        rf"\b(?P<word1>bullish|bearish) (?P<before>{_FRAME_LIST}) trend"
        rf"|\b(?P<word2>bullish|bearish) (?:trend )?on (?:the )?(?P<after>{_FRAME_LIST})"
        rf"|\b(?P<plain>\d+[mhdw])(?: trend)?(?: is| remains)? (?P<word3>bullish|bearish)\b",
        _frames,
    ),
    ("greed", rf"\bFear (?:&|and) Greed(?: index)?{_IS}{_SIGN}{_N}", _value_of("fear_greed")),
    (
        "fear greed",
        r"\b(?P<word>extreme (?:fear|greed))\b(?!\))"
        r"|\bFear (?:&|and) Greed(?: index)?[^();]{0,12}\d \((?P<mark>[a-z ]+)\)",
        _mood,
    ),
    (
        "news",
        r"\b(?P<word>positive|negative|neutral) news"
        r"|\bnews(?: sentiment)?(?: is| remains)? (?P<other>positive|negative|neutral)\b",
        _news,
    ),
    ("confidence", rf"\bconfidence{_IS}{_SIGN}{_N}", _value_of("sentiment_confidence")),
    ("$", rf"\bprice{_IS}\s*\$\s*{_N}", _value_of("price_usd")),
    (
        "volume interest funding day book chain whale level support resist cross sma ema vwap adx stoch fib",
        r"\b(?:volumes?|open interest|funding(?: rates?)?|order book|on-chain|whales?"
        r"|support (?:level|zone|at|near|around)|resistance"
        r"|(?:golden|death) cross|(?:50|100|200)[- ]?(?:day|period|hour|h)?[- ]?(?:SMA|EMA|MA)\b|VWAP|ADX"
        r"|stochastic|Fibonacci)\b",
        _unseen,
    ),
)
