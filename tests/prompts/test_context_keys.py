"""Keys that no field has: misspellings are refused with the nearest, others are listed; context the training lacked."""

from typing import Any

import pytest

from candletune.errors import InputError
from candletune.fields.registry import KEY_NAMES
from candletune.prompts.context import clean_context, context_sources, unknown_keys, untrained_sources
from candletune.prompts.nearest import near_names

GIVEN: dict[str, Any] = {"ticker": "BTC", "price_usd": 64250.5}


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("rsi_14", "rsi"), ("RSI", "rsi"), ("rsi14", "rsi"), ("RSI(14)", "rsi"), ("macd", "macd_hist"),
        ("macd_histogram", "macd_hist"), ("price", "price_usd"), ("priceUsd", "price_usd"), ("ema_gap", "ema_gap_pct"),
        ("headline", "headlines"), ("headlnes", "headlines"), ("fearGreed", "fear_greed"),
        ("fear_and_greed", "fear_greed"), ("macd_signal", None),
        ("fear_greed_index", "fear_greed"), ("bb", "bb_position"), ("change24h", "change_24h"), ("tickr", "ticker"),
        ("news", "news_sentiment"), ("bollinger_position", None), ("volume", None), ("atr", None),
        ("open_interest", None), ("funding_rate", None), ("id", None), ("", None), ("24", None),
    ],
)  # fmt: skip
def test_the_nearest_key(name: str, meant: str | None) -> None:
    assert next(iter(near_names(name, KEY_NAMES)), None) == meant


def test_no_key_is_near_another() -> None:
    near = {name: set(near_names(name, KEY_NAMES)) - {name} for name in KEY_NAMES}
    # One is a prefix of the other; both are known, so neither is ever unknown.
    assert {name: others for name, others in near.items() if others} == {
        "fear_greed": {"fear_greed_class"},
        "fear_greed_class": {"fear_greed"},
        "timeframe": {"timeframe_summary"},
        "timeframe_summary": {"timeframe"},
    }


def test_a_misspelled_key_is_refused() -> None:
    with pytest.raises(InputError, match=r"context.rsi_14: no such key; did you mean rsi\? Send it by that name"):
        clean_context(GIVEN | {"rsi_14": 28.4})
    with pytest.raises(InputError, match=r"context.price: no such key; did you mean price_usd\?"):
        clean_context({"ticker": "BTC", "price": 64250.5})
    with pytest.raises(InputError, match="did you mean rsi"):
        clean_context(GIVEN | {"rsi_14": 28.4, "rsi": None})


def test_other_keys_are_listed_and_change_nothing() -> None:
    more = {"volume": 3, "interval": "1h", "timestamp": "2025-01-01", "rsi_4h": 50, "ema_9": 1.0}
    given = GIVEN | {"rsi": 28.4, "ema_bullish": True}
    assert clean_context(given | more) == clean_context(given)
    assert unknown_keys(given | more) == list(more)


def test_sources_are_counted_by_what_they_told() -> None:
    placeholder = {"fear_greed": 50, "fear_greed_class": "Neutral", "news_sentiment": "neutral",
                   "sentiment_confidence": 0.0, "headlines": "N/A"}  # fmt: skip
    assert context_sources([placeholder] * 4) == {"fear_greed": 0.0, "headlines": 0.0}
    told = [placeholder, placeholder | {"fear_greed": 22, "fear_greed_class": "Extreme Fear"}]
    assert context_sources([*told, placeholder | {"headlines": "A"}, placeholder]) == {
        "fear_greed": 0.25,
        "headlines": 0.25,
    }
    assert context_sources([]) == {"fear_greed": 0.0, "headlines": 0.0}


def test_a_source_that_training_never_had_is_named() -> None:
    context = clean_context(GIVEN | {"fear_greed": 80, "headlines": ["A"]})
    assert untrained_sources(context, None) == []
    assert untrained_sources(context, {"fear_greed": 0.9, "headlines": 0.4}) == []
    (fear,) = untrained_sources(context, {"fear_greed": 0.0, "headlines": 0.4})
    assert fear.startswith("context.fear_greed: the model was trained on placeholders here (data.fear_greed")
    assert len(untrained_sources(context, {})) == 2
    assert untrained_sources(clean_context(GIVEN | {"fear_greed": 50}), {}) == []
