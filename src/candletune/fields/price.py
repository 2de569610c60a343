"""The price at the decision time."""

import math

from candletune.fields.field import NOT_AVAILABLE, Context, Field, Shown, check
from candletune.fields.keys import price_key
from candletune.fields.wording import IS, NUMBER, value_of


def _display(context: Context) -> Shown:
    return {"price_usd": _text(context.get("price_usd"))}


def _text(price: float | None) -> str:
    if price is None:
        return NOT_AVAILABLE
    # Six significant digits, never an exponent: a model reads digits better than 1e-05.
    return f"{price:,.2f}" if price >= 100 else f"{price:.{min(12, 5 - math.floor(math.log10(price)))}f}"


FIELD = Field(
    name="price",
    order=10,
    source="the close of the candle that ends at the decision time",
    keys=(price_key("price_usd", "close"),),
    display=_display,
    checks=(check("$", rf"\bprice{IS}\s*\$\s*{NUMBER}", value_of("price_usd")),),
)
