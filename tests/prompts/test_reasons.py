"""Reasons are true of their row, varied, and deterministic; the checker reads them back and reads free wording too."""

import itertools
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candletune.decisions import DECISIONS, Decision
from candletune.fields.rsi import rsi_word
from candletune.prompts.context import display_fields
from candletune.prompts.facts import facts_of
from candletune.prompts.grounding import check_reason, grounded
from candletune.prompts.parse import parse_answer
from candletune.prompts.reasons import write_completion, write_reason
from full_context import FULL_CONTEXT

BANDS = ("above upper band", "near upper band", "inside bands", "near lower band", "below lower band")
CONTEXT = FULL_CONTEXT


def finite(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False)


@st.composite
def contexts(draw: st.DrawFn) -> dict[str, Any]:
    gap = draw(finite(-5, 5))
    frames = [
        f"{name} {draw(st.sampled_from(('bullish', 'bearish')))} RSI {draw(st.integers(0, 100))} (+0.1%)"
        if draw(st.booleans())
        else f"{name} N/A"
        for name in ("4h", "12h", "1d")
    ]
    return CONTEXT | {
        "price_usd": draw(finite(1e-6, 1e6)),
        "change_24h": draw(finite(-40, 40)),
        "rsi": draw(finite(0, 100)),
        "macd_hist": draw(finite(-500, 500)),
        "ema_gap_pct": gap,
        "ema_bullish": gap > 0,
        "bb_position": draw(st.sampled_from(BANDS)),
        "fear_greed": (fear := draw(st.integers(0, 100))),
        "fear_greed_class": display_fields({"fear_greed": fear})["fear_greed_class"],
        "news_sentiment": draw(st.sampled_from(("positive", "negative", "neutral"))),
        "sentiment_confidence": draw(finite(0, 1)),
        "timeframe_summary": " | ".join(frames),
    }


@settings(max_examples=150, deadline=None)
@given(context=contexts(), label=st.sampled_from(DECISIONS), seed=st.integers(0, 10_000))
def test_whatever_the_row_shows_the_reason_is_true_of_it(context: dict[str, Any], label: Decision, seed: int) -> None:
    name, completion = write_completion(context, label, random.Random(seed))  # noqa: S311
    answer = parse_answer(completion)
    assert answer.action == label
    claims = check_reason(answer.reasoning, context)
    assert [claim.text for claim in claims if not claim.holds] == []
    assert len(claims) >= 2
    assert name.startswith(f"{label}/")
    assert (name, completion) == write_completion(context, label, random.Random(seed))  # noqa: S311


@settings(max_examples=100, deadline=None)
@given(context=contexts(), other=contexts(), label=st.sampled_from(DECISIONS))
def test_a_reason_of_another_row_is_caught(context: dict[str, Any], other: dict[str, Any], label: Decision) -> None:
    """Claims hold for another row exactly when its facts would have been worded the same."""
    _, reason = write_reason(context, label, random.Random(1))  # noqa: S311
    claims = check_reason(reason, other)
    mine, theirs = (
        {phrase for fact in facts_of(c, display_fields(c)) for phrase in fact.phrases} for c in (context, other)
    )
    cited = [phrase for phrase in mine if phrase.lower() in reason.lower()]
    if not any(phrase in theirs for phrase in cited):
        assert not all(claim.holds for claim in claims)


@pytest.mark.parametrize("label", DECISIONS)
def test_at_least_twelve_wordings_a_class_and_none_dominates(label: Decision) -> None:
    rng = random.Random(4)  # noqa: S311
    names: Counter[str] = Counter()
    sentences = set()
    for rsi, change, bullish, band, fear in itertools.product(
        (25.0, 40.0, 50.0, 60.0, 75.0), (-3.0, 0.1, 3.0), (True, False), BANDS, (20, 50, 80)
    ):
        gap = 0.4 if bullish else -0.4
        changed = {"rsi": rsi, "change_24h": change, "ema_bullish": bullish, "ema_gap_pct": gap, "macd_hist": gap}
        mood = display_fields({"fear_greed": fear})["fear_greed_class"]
        context = CONTEXT | changed | {"bb_position": band, "fear_greed": fear, "fear_greed_class": mood}
        name, sentence = write_reason(context, label, rng)
        names[name] += 1
        sentences.add(sentence)
    assert len(names) >= 12
    assert max(names.values()) / names.total() < 0.15
    assert len(sentences) / names.total() > 0.9


def test_an_overbought_buy_says_so() -> None:
    context = CONTEXT | {"rsi": 81.2, "bb_position": "above upper band", "news_sentiment": "neutral"}
    context |= {"fear_greed": 50, "fear_greed_class": "Neutral", "timeframe_summary": "4h N/A"}
    sentences = {write_reason(context, "BUY", random.Random(seed))[1] for seed in range(60)}  # noqa: S311
    for sentence in sentences:
        assert "oversold" not in sentence
        assert grounded(sentence, context)
    assert any("overbought" in sentence for sentence in sentences)


@pytest.mark.parametrize(
    ("rsi", "word"),
    [(29.94, "oversold"), (29.96, "weak"), (30.0, "weak"), (44.9, "weak"), (45.0, "neutral"), (55.0, "neutral"),
     (55.06, "firm"), (70.0, "firm"), (70.04, "firm"), (70.06, "overbought")],
)  # fmt: skip
def test_the_displayed_rsi_decides_the_word(rsi: float, word: str) -> None:
    assert rsi_word(rsi) == word


@pytest.mark.parametrize(
    ("reason", "claims"),
    [
        ("RSI at 28.4 is oversold.", [True, True]),
        ("RSI of 28 shows an oversold market", [True, True]),
        ("RSI(14): 31.2", [False]),
        ("The RSI is not overbought", [True]),
        ("not yet oversold", [False]),
        ("RSI below 30", [True]),
        ("RSI is above 30", [False]),
        ("4h RSI 33 and 1d RSI of 60", [True, False]),
        ("a negative MACD histogram of -35.68", [True, True]),
        ("MACD is bullish", [False]),
        ("MACD remains below zero", [True]),
        ("bearish EMA crossover with a gap of -0.46%", [True, True]),
        ("the EMA trend is bullish", [False]),
        ("the fast EMA above the slow one (gap +0.46%)", [False, False]),
        ("price below the lower Bollinger band", [True]),
        ("trading above the upper band", [False]),
        ("within the bands", [False]),
        ("a 24h loss of 1.23%", [True, True]),
        ("a 24h gain of 1.23%", [False, True]),
        ("24h change of -1.2%", [True]),
        ("a flat 24h change", [False]),
        ("a bearish 4h and 12h trend", [True]),
        ("a bullish trend on 4h", [False]),
        ("1d is bullish", [True]),
        ("Fear & Greed at 22 (Extreme Fear)", [True, True]),
        ("extreme greed rules", [False]),
        ("negative news sentiment (confidence 0.31)", [True, True]),
        ("news is positive", [False]),
        ("price at $64,250.50", [True]),
        ("price at $61,000", [False]),
        ("RSI near 30", [True]),
        ("RSI is around 45", [False]),
        ("MACD histogram of about -36", [True]),
        ("a 24h drop of roughly 1.3%", [True, True]),
        ("rising volume confirms the move", [False]),
        ("price holds above the support level with a golden cross", [False, False]),
        ("below the 200-day SMA", [False]),
        ("open interest falls and funding rates turn", [False, False]),
        ("momentum supports a push up from here", []),
        ("A move higher looks likely.", []),
    ],
)
def test_free_wording_is_read_back(reason: str, claims: list[bool]) -> None:
    found = check_reason(reason, CONTEXT)
    assert [claim.holds for claim in found] == claims, found
    assert grounded(reason, CONTEXT) == (all(claims) if claims else None)


def test_a_headline_may_speak_of_what_no_indicator_shows() -> None:
    context = CONTEXT | {"headlines": "Whales buy the dip | Funding rates turn negative"}
    assert grounded("Whales accumulate while funding rates fall", context) is True
    assert grounded("volume rises", context) is False


@pytest.mark.parametrize("reason", ["RSI at 28.4, oversold", "RSI above 20", "a bearish EMA", "24h loss", "flat 24h"])
def test_what_the_prompt_does_not_show_cannot_hold(reason: str) -> None:
    assert grounded(reason, {"ticker": "BTC", "price_usd": 1.0}) is False


@pytest.mark.parametrize("label", DECISIONS)
def test_two_known_indicators_are_enough(label: Decision) -> None:
    """A trader may send little: any two facts give a reason, with none invented for the fields that are missing."""
    bare = {"ticker": "BTC", "price_usd": 100.0}
    known: tuple[dict[str, Any], ...] = (
        {"rsi": 50.0},
        {"rsi": 22.0},
        {"macd_hist": 0.7},
        {"macd_hist": -0.7},
        {"ema_bullish": True, "ema_gap_pct": 0.2},
        {"bb_position": "inside bands"},
        {"change_24h": 0.1},
        {"change_24h": -4.0},
        {"timeframe_summary": "4h bearish RSI 40 (-0.1%)"},
        {"news_sentiment": "positive", "sentiment_confidence": 0.4},
        {"fear_greed": 80},
    )
    kinds = set()
    for one, two in itertools.combinations(known, 2):
        context = bare | one | two
        if len(context) < len(one) + len(two) + 2:
            continue  # two values of one indicator
        for seed in range(4):
            name, sentence = write_reason(context, label, random.Random(seed))  # noqa: S311
            assert grounded(sentence, context), sentence
            kinds.add(name.split("/")[1])
    assert kinds == (
        {"calm", "mixed", "one-sided"} if label == "HOLD" else {"supported", "disputed", "lone", "opposed", "quiet"}
    )
