"""A trader's own template: raw values, one-line errors that name line and remedy, and nothing that runs away."""

import random
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from candletune.decisions import DECISIONS
from candletune.errors import InputError
from candletune.prompts.context import clean_context, context_of
from candletune.prompts.grounding import grounded
from candletune.prompts.reasons import write_reason
from candletune.prompts.template import Template, load_template

SHOWN = "{{ ticker }} {{ price_usd }} {{ rsi }}"
DEMANDED = "DECISION: [BUY/SELL/HOLD] - [reason]"
CONTEXT: dict[str, Any] = {
    "ticker": "BTC",
    "price_usd": 64250.5,
    "rsi": 28.44,
    "macd_hist": None,
    "ema_bullish": True,
    "ema_gap_pct": 0.456,
    "headlines": "One | Two",
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mine.j2"


def loaded(path: Path, body: str, shown: str = SHOWN, demanded: str = DEMANDED) -> Template:
    path.write_text(f"{shown}\n{body}\n{demanded}", encoding="utf-8")
    return load_template(path)


def body_of(path: Path, body: str, context: dict[str, Any] | None = None) -> str:
    return loaded(path, body).render(CONTEXT if context is None else context).splitlines()[1]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("{{ raw.rsi }}", "28.44"),
        ("{{ '%.2f'|format(raw.rsi) }}", "28.44"),
        ("{{ '%.0f/%s' % (raw.rsi, ticker) }}", "28/BTC"),
        ("{{ '{:,.1f}'.format(raw.price_usd) }}", "64,250.5"),
        ("{{ raw.price_usd|fmt(',.0f') }}", "64,250"),
        ("{{ raw['rsi']|fmt('08.3f') }}", "0028.440"),
        ("{{ raw.macd_hist|fmt('.2f') }} {{ raw.macd_hist|fmt('.2f', '-') }} {{ raw.macd_hist }}", "N/A - None"),
        ("{{ raw.fear_greed }} {{ raw.fear_greed_class }} {{ raw.sentiment_confidence }}", "50 Neutral 0.0"),
        ("{% if raw.rsi < 30 %}low{% elif raw.rsi is none %}?{% else %}high{% endif %}", "low"),
        ("{% for title in raw.headlines %}{{ loop.index }}={{ title }};{% endfor %}", "1=One;2=Two;"),
        ("{{ '; '.join(raw.headlines[:1]) }} {{ raw.headlines|join('+') }}", "One One+Two"),
        ("{% set gap = raw.ema_gap_pct * 100 %}{{ gap|round(1) }} bp", "45.6 bp"),
        (
            "{{ 'up' if ema_bullish else 'down' }} {{ bb_position|upper }} {{ '-' * 5 }} {{ ticker ~ '!' }}",
            "up N/A ----- BTC!",
        ),
        ("{{ 'x' if raw.rsi > 90 }}|", "|"),
    ],
)
def test_what_a_template_can_say(path: Path, body: str, text: str) -> None:
    assert body_of(path, body) == text


def test_raw_values_are_the_same_from_a_market_row_and_from_a_request(path: Path) -> None:
    """The dataset's rows hold placeholders and integers where a live request sends nothing, or floats."""
    names = sorted(set(CONTEXT) | {"fear_greed", "fear_greed_class", "news_sentiment", "timeframe_summary"})
    template = loaded(path, " ".join(f"{{{{ raw.{name}|fmt }}}}" for name in names if name != "headlines"))
    row = {
        "asset": "BTC", "close": 64250.5, "rsi": 28.44, "macd_hist": 1.0, "ema_bullish": True, "ema_gap_pct": 0.456,
        "fear_greed": 50, "fear_greed_class": "Neutral", "news_sentiment": "neutral", "timeframe_summary": "N/A",
    }  # fmt: skip
    sent = {
        "ticker": "BTC", "price_usd": "64250.5", "rsi": 28.44, "macd_hist": 1, "ema_bullish": True,
        "ema_gap_pct": 0.456,
    }  # fmt: skip
    assert template.render(context_of(row)) == template.render(clean_context(sent))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("{{ '%.2f'|format(rsi) }}", "line 2: cannot be rendered (must be real number, not str); rsi is a formatted "
         "text: take the number, raw.rsi"),
        ("{{ rsi|fmt('.2f') }}", "take the number, raw.rsi"),
        ("{% if rsi > 70 %}high{% endif %}", "take the number, raw.rsi"),
        ("{{ ticker }}\n{{ change_24h * 2.5 }}", "line 3: cannot be rendered"),
        ("RSI {rsi}", "line 2 has {rsi}, which stays as it is; a field is written {{ rsi }}"),
        ("a\nPrice {price:,.2f}", "line 3 has {price:,.2f}, which stays as it is; a field is written {{ price_usd }}"),
        ("a\nRSI {\n rsi }", "line 3 has { rsi }, which stays as it is; a field is written {{ rsi }}"),
        ("{{ rsi_14 }}", "unknown field rsi_14; did you mean rsi?"),
        ("{{ raw.macd }}", "unknown raw value macd; did you mean macd_hist?"),
        ("{{ raw.moon }}", "unknown raw value moon; known: "),
        ("{{ raw }}", "name one of its keys"),
        ("{{ raw.headlines }}", "prints a tuple; join it"),
        ("{{ ticker", "not a valid Jinja2 template"),
        ("{% include 'other' %}", "line 2: include is not part of prompt templates"),
        ("{% macro f() %}{% endmacro %}", "macro is not part of prompt templates"),
        ("{{ 'x'|center(9) }}", "line 2: no filter center; there are "),
        ("{{ range(3) }}", "range() cannot be called"),
        ("{{ raw.rsi / 0 }}", "line 2: cannot be rendered (float division by zero)"),
        ("{{ '[IN' ~ 'ST]' }}", "writes the control token [INST]"),
    ],
)  # fmt: skip
def test_mistakes_are_named_with_line_and_remedy(path: Path, body: str, said: str) -> None:
    with pytest.raises(InputError) as raised:
        loaded(path, body)
    message = str(raised.value)
    assert said in message
    assert message.startswith(str(path))
    assert "\n" not in message


def test_a_number_the_context_lacks_is_named_with_the_filter_that_says_so(path: Path) -> None:
    template = loaded(path, "{{ '%.1f' % raw.macd_hist }}")
    assert template.render(CONTEXT | {"macd_hist": 2.25}).splitlines()[1] == "2.2"
    with pytest.raises(InputError, match=r"line 2: .*the context has no macd_hist: raw.macd_hist\|fmt"):
        template.render(CONTEXT)


def test_a_template_must_demand_a_decision(path: Path) -> None:
    with pytest.raises(InputError, match="never demands a decision; end it with"):
        loaded(path, "Be brief.", demanded="")


def test_raw_values_show_the_required_fields_too(path: Path) -> None:
    shown = "{{ raw.ticker }} {{ raw.price_usd|fmt('.0f') }} {{ raw.rsi|fmt('.1f') }}"
    assert loaded(path, "", shown=shown).render(CONTEXT).startswith("BTC 64250 28.4")
    with pytest.raises(InputError, match="never shows rsi; add them"):
        loaded(path, "", shown="{{ raw.ticker }} {{ raw.price_usd }}")


def test_a_byte_order_mark_is_no_part_of_the_prompt(path: Path) -> None:
    plain = loaded(path, "x")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    marked = load_template(path)
    assert marked.render(CONTEXT) == plain.render(CONTEXT)
    assert marked.sha256 == plain.sha256


@pytest.mark.parametrize(
    "body",
    [
        "{{ 'a' * 10**10 }}",
        "{{ 10**9 * 'a' }}",
        "{{ 10**10**10 }}",
        "{{ '%9999999999d' % 1 }}",
        "{{ '%*d' % (999999999, 1) }}",
        "{{ '%9999999999d'|format(1) }}",
        "{{ '{:>9999999999}'.format(1) }}",
        "{{ '{0:{1}}'.format(1, 9999999999) }}",
        "{{ 1|fmt('9999999999') }}",
        "{{ 'a'|replace('a', 'b' * 20000)|replace('b', 'c' * 20000) }}",
        "{{ ('b' * 20000).join(['a', 'a', 'a']) }}",
        "{% set a = 'x' * 20000 %}{% set b = a ~ a %}{{ b }}",
        "{% set a = [1] * 20000 %}{% set b = a + a %}{{ b|length }}",
        "{% set a = [1] %}{% set a = [a, a] %}{{ a }}",
        "{% for a in 'x' * 10000 %}{% for b in 'x' * 10000 %}.{% endfor %}{% endfor %}",
        "{% for a in 'x' * 20 %}{% for b in 'x' * 20 %}{{ 'x' * 1000 }}{% endfor %}{% endfor %}",
        "{% for a in 'xx' %}{% for a in 'xx' %}{% for a in 'xx' %}.{% endfor %}{% endfor %}{% endfor %}",
        "x" * 40_000,
        "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    ],
)  # fmt: skip
def test_nothing_grows_or_runs_without_bound(path: Path, body: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InputError) as raised:
            loaded(path, body)
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("label", DECISIONS)
@pytest.mark.parametrize("rsi", [22.0, 50.0, 80.0])
def test_a_reason_cites_only_what_the_template_shows(path: Path, label: Any, rsi: float) -> None:
    """With RSI alone in the prompt there is one fact, and a model asked for more could only invent it."""
    template = loaded(path, "")
    context = CONTEXT | {"rsi": rsi, "macd_hist": 12.0, "change_24h": 3.0, "bb_position": "inside bands"}
    visible = template.visible(context)
    assert set(visible) == {"ticker", "price_usd", "rsi"}
    for seed in range(6):
        _, reason = write_reason(visible, label, random.Random(seed))  # noqa: S311
        assert "RSI" in reason
        assert grounded(reason, visible)
    # True of the market, and nothing the prompt could have told.
    assert grounded("a positive MACD histogram of +12.00", context) is True
    assert grounded("a positive MACD histogram of +12.00", visible) is False
    assert template.visible(context) != context == load_template().visible(context)
