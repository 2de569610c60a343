"""One renderer: the packaged prompt to the byte, the user's own checked, displays that fit any coin."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candletune.base.chat import MISTRAL
from candletune.errors import InputError
from candletune.prompts.context import clean_context, context_of, display_fields
from candletune.prompts.template import Template, load_template
from full_context import FULL_CONTEXT

CONTEXT = FULL_CONTEXT | {
    "timeframe_summary": "4h bearish RSI 33 (-0.8%) | 1d bullish RSI 55 (+0.1%)",
    "headlines": "One | Two",
}
DEMANDED = "DECISION: [BUY/SELL/HOLD] - [reason]"
FIELDS_SHOWN = """Asset: BTC
Price: $64,250.50
24h Change: -1.23%
RSI(14): 28.4
MACD histogram: -35.68
EMA(9/21): bearish (gap -0.46%)
Bollinger Bands(20,2): below lower band
Fear & Greed: 22 (Extreme Fear)
News sentiment: negative (confidence 0.31)
Multi-timeframe: 4h bearish RSI 33 (-0.8%) | 1d bullish RSI 55 (+0.1%)
Headlines: One | Two

Answer with exactly one line in this format:
DECISION: [BUY/SELL/HOLD] - [reason]"""


def test_the_packaged_prompt_to_the_byte() -> None:
    text = load_template().render(CONTEXT)
    head, _, shown = text.partition("\n\n")
    assert head.startswith("You are a disciplined cryptocurrency futures trader.")
    assert shown == FIELDS_SHOWN


def test_a_signal_request_renders_as_the_market_row_does() -> None:
    row = {**CONTEXT, "asset": "BTC", "close": 64250.5, "label": "BUY"}
    assert load_template().render(context_of(row)) == load_template().render(clean_context(CONTEXT))


def test_only_the_ticker_and_the_price_are_needed() -> None:
    text = load_template().render(clean_context({"ticker": "ETH", "price_usd": "3100"}))
    for line in ("Price: $3,100.00", "RSI(14): N/A", "EMA(9/21): N/A", "Fear & Greed: 50 (Neutral)", "Headlines: N/A"):
        assert line in text.splitlines()


@pytest.mark.parametrize(
    ("price", "macd", "shown"),
    [
        (64250.5, 12.3456, ("64,250.50", "+12.35")),
        (100.0, 0.01, ("100.00", "+0.010")),
        (3.14159265, -0.00123, ("3.14159", "-0.00123")),
        (0.00001234, 0.00000000123, ("0.0000123400", "+0.0000000012")),
    ],
)
def test_prices_keep_six_digits(price: float, macd: float, shown: tuple[str, str]) -> None:
    fields = display_fields({"price_usd": price, "macd_hist": macd})
    assert (fields["price_usd"], fields["macd_hist"]) == shown


def test_the_hash_is_of_the_text() -> None:
    assert load_template().sha256 == load_template(None).sha256
    assert Template("a", "x").sha256 == Template("b", "x").sha256 != Template("a", "y").sha256


def test_a_users_template(tmp_path: Path) -> None:
    path = tmp_path / "mine.j2"
    shown = "{{ ticker }} {{ price_usd }} {{ rsi }} {% if ema_bullish %}up{% else %}down{% endif %}"
    path.write_text(f"{shown}\n{DEMANDED}\n")
    template = load_template(path)
    assert template.render(CONTEXT) == f"BTC 64,250.50 28.4 down\n{DEMANDED}"
    assert template.sha256 != load_template().sha256


def test_a_template_may_not_reach_outside(tmp_path: Path) -> None:
    path = tmp_path / "mine.j2"
    path.write_text("{{ ticker.__class__.__mro__ }} {{ price_usd }} {{ rsi }}")
    with pytest.raises(InputError, match="line 1: no attribute __mro__"):
        load_template(path)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"ticker": ""}, "context.ticker: missing"),
        ({"price_usd": None}, "context.price_usd: missing"),
        ({"price_usd": -1}, "context.price_usd: expected a positive number, got -1"),
        ({"price_usd": "N/A"}, "context.price_usd: expected a positive number"),
        ({"rsi": "high"}, "context.rsi: expected a number, got 'high'"),
        ({"rsi": 101}, "context.rsi: expected a number from 0 to 100"),
        ({"rsi": True}, "context.rsi: expected a number, got True"),
        ({"rsi": float("nan")}, "context.rsi: expected a number, got nan"),
        ({"fear_greed": [1]}, "context.fear_greed: expected a number"),
        ({"sentiment_confidence": 2}, "from 0 to 1"),
        ({"ema_bullish": "yes"}, "context.ema_bullish: expected true or false, got 'yes'"),
        ({"bb_position": 3}, "context.bb_position: expected text, got 3"),
        ({"headlines": 3}, "context.headlines: expected text or a list"),
        ({"headlines": ["a", 3]}, "context.headlines: expected text or a list"),
    ],
)
def test_wrong_contexts_are_refused_by_key(change: dict[str, Any], what: str) -> None:
    with pytest.raises(InputError) as raised:
        clean_context(CONTEXT | change)
    assert what in str(raised.value)
    assert "\n" not in str(raised.value)


def test_contexts_are_cleaned() -> None:
    given = {"rsi": "N/A", "change_24h": "1.5%", "headlines": ["a [INST] b", "", "c\nd", "four"], "ema_bullish": "n/a"}
    clean = clean_context(CONTEXT | given)
    assert (clean["rsi"], clean["change_24h"], clean["ema_bullish"]) == (None, 1.5, None)
    assert clean["headlines"] == "a b | c d"
    assert clean_context(CONTEXT | {"headlines": "x | y | z | more"})["headlines"] == "x | y | z"
    assert clean_context(CONTEXT | {"headlines": []})["headlines"] == "N/A"
    assert clean_context(CONTEXT | {"bb_position": "inside </s> bands"})["bb_position"] == "inside bands"


PIECES = (
    "[INST]",
    "[/INST]",
    "<s>",
    "</s>",
    "<unk>",
    "<pad>",
    "[",
    "]",
    "<",
    ">",
    "/",
    "s",
    "INST",
    "\n",
    " ",
    "x",
    "|",
)


@given(
    st.lists(st.sampled_from(PIECES), max_size=14).map("".join), st.sampled_from(("headlines", "bb_position", "ticker"))
)
def test_no_text_from_outside_carries_a_control_token_into_the_prompt(text: str, key: str) -> None:
    given_context = CONTEXT | {key: f"a{text}" if key == "ticker" else text}
    prompt = load_template().render(clean_context(given_context))
    assert [token for token in MISTRAL.control if token in prompt] == []
    assert len(prompt.splitlines()) == len(load_template().render(CONTEXT).splitlines())
