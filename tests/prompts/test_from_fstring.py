"""F-strings become templates that say the same, or are refused with their line."""

from pathlib import Path
from typing import Any

import pytest

from candletune.cli import main
from candletune.errors import InputError
from candletune.prompts.from_fstring import template_text
from candletune.prompts.template import parse_template

CONTEXT: dict[str, Any] = {
    "ticker": "BTC",
    "price_usd": 64250.5,
    "rsi": 71.06,
    "macd_hist": -0.0421,
    "ema_bullish": True,
    "ema_gap_pct": 0.456,
    "fear_greed": 22,
    "headlines": ("One", "Two"),
}
ALWAYS = "{rsi} {ticker} {price_usd} DECISION:"


@pytest.mark.parametrize(
    "body",
    [
        "{rsi:.2f} {price_usd:,.0f} {macd_hist:+.3e} {rsi:>10.1f}|",
        "{'high' if rsi > 70 else 'low'} {'a' if rsi >= 30 and not ema_bullish or fear_greed == 22 else 'b'}",
        "{'a' if 20 < rsi < 80 else 'b'} {'x' if macd_hist is None else 'y'}",
        "{'z' if ticker in ('BTC', 'ETH') else 'w'} {'n' if ticker not in ['SOL'] else 'm'}",
        "{rsi - 50:.1f} {(rsi - 50) * -2:.1f} {-rsi:.0f} {rsi / 3 ** 2:.3f} {fear_greed // 4} {fear_greed % 4}",
        "{abs(macd_hist):.2f} {round(rsi, 1)} {len(headlines)}",
        "{', '.join(headlines)} {headlines[0]} {'; '.join(headlines[:1])} {ticker.lower()} {ticker[1:]}",
        "{{braces}} {{{ticker}}} {{%x%}} {{#y#}} {{{{",
        "{ema_bullish} {fear_greed} {rsi!s}",
        "\\ttab 'quotes' \\\"more\\\" é",
        "{'%.2f' % rsi} {'{:.1f}'.format(rsi)}",
    ],
)
def test_the_template_says_what_the_fstring_says(body: str, tmp_path: Path) -> None:
    source = f'text = f"""{ALWAYS}\n{body}"""\n'
    path = tmp_path / "trader.py"
    path.write_text(source, encoding="utf-8")
    scope = dict(CONTEXT)
    exec(source, scope)  # noqa: S102
    template = parse_template("t", template_text(path))
    given = CONTEXT | {"headlines": " | ".join(CONTEXT["headlines"])}
    assert template.render(given) == scope["text"].strip()


FUNCTION = '''
import textwrap
OTHER = f"{__name__}"
def prompt(ctx, self=None):
    rsi = round(ctx["rsi"], 1)
    note = f" [{'up' if ctx['ema_bullish'] else 'down'}]"
    return textwrap.dedent(f"""\\
        <s>[INST] {ctx["ticker"]} {ctx.get("price_usd"):.1f} {rsi}{note}
          {ctx.get("macd_hist", 0.0):.4f} {ctx["own"]}
        DECISION: x [/INST]""")
'''


def test_a_function_with_its_own_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "trader.py"
    path.write_text(FUNCTION)
    with pytest.raises(InputError, match=r"line 9: .*own is no key of the context.*--map own=KEY"):
        template_text(path)
    text = template_text(path, names={"own": "fear_greed"})
    rendered = parse_template("t", text).render(CONTEXT | {"headlines": "N/A"})
    assert rendered == "BTC 64250.5 71.1 [up]\n  -0.0421 22\nDECISION: x"
    # A missing MACD takes the default the trader wrote.
    assert "\n  0.0000 22\n" in parse_template("t", text).render(CONTEXT | {"macd_hist": None, "headlines": "N/A"})
    with pytest.raises(SystemExit) as ended:
        main(["template", "from-fstring", str(path), "--map", "own=nothing"])
    assert ended.value.code == 2
    assert "--map own=nothing: no such context key" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("x = 'no'", "no f-string"),
        ("x = f'{rsi}'\ny = f'{ticker}'", "f-strings on lines 1, 2; name the variable"),
        ("x = f'{rsi!r}'", "line 1: {rsi} cannot be translated: !r"),
        ("x = f'{rsi:{width}}'", "a format that is itself computed"),
        ("x = f'{rsi_14}'", "rsi_14 is no key of the context; did you mean rsi?; say which with --map rsi_14=KEY"),
        ("x = f'{max(rsi, 3)}'", "templates cannot call it"),
        ("x = f'{[h for h in headlines]}'", "templates have no words for it"),
        ("if 1:\n    a = 1\nelse:\n    a = 2\nx = f'{a}'", "a is given a value more than once"),
        ("for a in b:\n    x = f'{a}'", "a is given a value more than once, or in a loop"),
        ("a = b\nb = a\nx = f'{a}'", "it is built from too many others"),
        ("x = f'{", "cannot be read as Python"),
    ],
)
def test_what_cannot_be_translated_is_refused(source: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "trader.py"
    path.write_text(source)
    with pytest.raises(InputError) as raised:
        template_text(path)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_variable_is_named(tmp_path: Path) -> None:
    path = tmp_path / "trader.py"
    path.write_text("x = f'{rsi:.1f}'\ny = f'{ticker}'")
    assert template_text(path, name="y") == "{{ raw.ticker }}\n"
    with pytest.raises(InputError, match="no variable or function z; check --name"):
        template_text(path, name="z")
