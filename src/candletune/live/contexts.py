"""Contexts that a trader sends to the shadow loop: read, checked, and their stamps brought onto the candle grid.

Outcomes are known at candles' closes only. A row stamped with any other moment would never join one.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from candletune.config import Config
from candletune.console import Reporter
from candletune.errors import InputError
from candletune.fields.keys import shown
from candletune.live.lines import parse_context, positive_number
from candletune.live.overrides import OVERRIDE
from candletune.live.shadow import Due
from candletune.live.watch import newest_candle
from candletune.market.candles import decision_time, ticker_of

CLOCK_SKEW: Final = timedelta(minutes=1)
"""How far a trader's clock may be ahead."""
OLDEST: Final = timedelta(days=31)
"""How far behind the newest candle a stamp may be: a shadow test goes on for weeks, not for longer."""


class ContextReader:
    """Turns lines into due decisions.

    Attributes:
        read: lines that were decisions.
        snapped: those whose stamp was no candle's close.
        repeated: those whose candle was logged already.
    """

    def __init__(
        self, config: Config, reporter: Reporter, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """`config` names timeframe and candles; the first stamp that is moved is said to `reporter`."""
        self.read = self.snapped = self.repeated = 0
        self._config, self._reporter, self._clock = config, reporter, clock

    def due(self, line: str | bytes) -> Due:
        """The decision of a JSON context; `timestamp` (ISO 8601) is taken from it, or is now.

        The row's time is the close of the last candle that had closed by then.

        Raises:
            InputError: the line is no JSON object, lacks what a journal row needs, has a stamp that cannot be, or asks
                another model than the two that are compared.
        """
        context = dict(parse_context(line))
        if context.pop(OVERRIDE, None) not in (None, ""):
            raise InputError(
                f"context.{OVERRIDE}: the shadow loop asks the active model and the candidate, no other one; leave it "
                "out (`candletune signal` takes it)"
            )
        now = self._clock()
        stamp = context.pop("timestamp", None)
        given = now.replace(microsecond=0) if stamp is None else _moment(stamp)
        ticker, price = self._ticker(context.get("ticker")), _price(context.get("price_usd"))
        closed = self._closed(given, now)
        late = now - closed >= self._config.candle
        self.read += 1
        if closed == given:
            return Due(closed, ticker, price, context, late)
        if not self.snapped:
            self._reporter.warn(
                f"context.timestamp {given:%Y-%m-%d %H:%M:%S} is no candle's close: rows are stamped with the close of "
                f"the last {self._config.data.timeframe} candle before, here {closed:%Y-%m-%d %H:%M} UTC (said once)"
            )
        self.snapped += 1
        return Due(closed, ticker, price, context, late, given)

    def summary(self) -> str:
        """What was read, for the end."""
        return (
            f"{self.read} contexts; {self.snapped} were stamped off the {self._config.data.timeframe} grid and moved "
            f"to the last close; {self.repeated} came in a candle that was logged already"
        )

    def _ticker(self, given: Any) -> str:
        """A ticker whose outcomes will be known. The journal is only appended to: a row of another one would stay."""
        known = [ticker_of(pair) for pair in self._config.data.pairs]
        if not isinstance(given, str) or given not in known:
            raise InputError(
                f"context.ticker: expected {' or '.join(known)}, got {shown(given)}; send one of them, or add its "
                "pair to data.pairs"
            )
        return given

    def _closed(self, given: datetime, now: datetime) -> datetime:
        if given > now + CLOCK_SKEW:
            raise InputError(
                f"context.timestamp: {_text(given)} is in the future, it is {_text(now)}; send the time of the "
                "decision, in UTC or with its offset"
            )
        closed = decision_time(given, self._config.data.timeframe)
        if now - closed > OLDEST and (newest := self._newest_close()) is not None and newest - closed > OLDEST:
            raise InputError(
                f"context.timestamp: {_text(given)} is {(newest - closed).days} days older than the newest candle "
                f"({_text(newest)}), and {OLDEST.days} are the most; `candletune replay` judges past candles"
            )
        return closed

    def _newest_close(self) -> datetime | None:
        try:
            return newest_candle(self._config) + self._config.candle
        except InputError:  # no candles yet: outcomes come with them
            return None


def _moment(stamp: Any) -> datetime:
    try:
        at = datetime.fromisoformat(str(stamp))
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InputError(f"context.timestamp: expected ISO 8601, got {shown(stamp)}") from None


def _price(given: Any) -> float:
    number = positive_number(given)
    if number is None:
        raise InputError(f"context.price_usd: expected a positive number, got {shown(given)}")
    return number


def _text(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
