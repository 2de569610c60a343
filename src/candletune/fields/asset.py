"""Which coin: the pair's ticker."""

from candletune.fields.field import NOT_AVAILABLE, Context, Field, Shown
from candletune.fields.keys import text_key


def _display(context: Context) -> Shown:
    return {"ticker": context.get("ticker", NOT_AVAILABLE)}


FIELD = Field(
    name="asset",
    order=0,
    source="the base currency of the pair: BTC of BTC/USDT:USDT",
    keys=(text_key("ticker", example="BTC", limit=24, column="asset", required=True),),
    display=_display,
)
