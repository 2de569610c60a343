"""`shadow`: the incumbent acts, the candidate is only logged."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from candletune.commands import CANDLES, RUN, heart, open_session, tell_service, with_config
from candletune.commands.live import begin_on_a_fresh_line, say_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from candletune.config import Config
    from candletune.live.shadow import ShadowLoop


@click.command(epilog="Example: candletune shadow --exchange binanceusdm")
@with_config
@click.option("--once", is_flag=True, help="Answer what is due now, and end.")
@click.option(
    "--stdin", "from_stdin", is_flag=True, help="Take contexts as JSON lines instead of watching candle files."
)
@click.option("--exchange", metavar="NAME", help="Fetch new candles from this exchange (needs ccxt).")
def shadow(config_path: Path, assignments: tuple[str, ...], once: bool, from_stdin: bool, exchange: str | None) -> None:
    """On every closed candle the incumbent answers, then the candidate is asked; both go into the journal.

    Active answers appear on standard output as JSON lines, before the candidate is asked.
    """
    from candletune.errors import InputError, UsageError
    from candletune.live.monitor import DriftMonitor
    from candletune.live.shadow import open_loop
    from candletune.live.signal import Trader
    from candletune.notify import Event, Notifier

    if from_stdin and (exchange or once):
        raise UsageError("--stdin: takes contexts as they come; leave out --once and --exchange")
    session = open_session(config_path, assignments, needs=(RUN,) if from_stdin else (RUN, CANDLES))
    if exchange and session.config.simulate.enabled:
        raise UsageError("--exchange: the candles of this configuration are simulated; leave it out")
    config, reporter = session.with_candles(), session.reporter
    trader = Trader(config, warn=reporter.warn)
    if tell_service("STATUS=waiting for the model's first answer"):
        trader.prove()
    begin_on_a_fresh_line()
    loop = open_loop(config, trader, emit=say_json, reporter=reporter)
    reporter.say(f"active: {trader.active.name}; journal: {config.live.journal}")
    notifier = Notifier(config.notify, reporter.warn)
    loop.fault = lambda text: notifier.tell(Event.FAULT, "fault of the candidate", text)
    loop.after = DriftMonitor(config, reporter, notifier.tell, faults=trader.faults).after
    tell_service("READY=1")
    try:
        if from_stdin:
            _follow_stdin(loop, config)
        else:
            reporter.say(f"{_follow_candles(loop, config, once=once, exchange=exchange)} rows written")
        if once and loop.unlogged:
            raise InputError(f"{config.live.journal}: {loop.unlogged} rows could not be logged; see the warnings above")
    finally:
        tell_service("STOPPING=1")
        loop.close()
        trader.close()
        notifier.close()


def _follow_candles(loop: "ShadowLoop", config: "Config", *, once: bool, exchange: str | None) -> int:
    """A stop comes between two rows: what was answered is logged (its candidate as skipped), nothing is asked twice."""
    import signal as signals
    import threading
    from datetime import timedelta

    from candletune.live.watch import play_simulated, watch

    ended = threading.Event()
    signals.signal(signals.SIGTERM, lambda *_: ended.set())
    if config.simulate.enabled:
        candles = 1 if once else timedelta(days=7) // config.candle
        what = "the last one is" if once else f"the last {candles} are"
        loop.reporter.say(f"the candles are simulated: {what} answered, as if each had just closed")
        return play_simulated(config, loop, candles=candles, stop=ended.is_set)
    beat = heart()

    def stop() -> bool:
        """Asked between looks and while the candidate works: a loop that asks no more hangs, and is restarted."""
        beat()
        return ended.is_set()

    return watch(config, loop, once=once, fetch=_fetcher(config, exchange), stop=stop, pause=ended.wait)


def _follow_stdin(loop: "ShadowLoop", config: "Config") -> None:
    """A wrong line is answered with an error and the next one is read, as `signal --serve` does."""
    from candletune.errors import InputError
    from candletune.live.contexts import ContextReader
    from candletune.live.lines import error_answer, read_lines

    reader = ContextReader(config, loop.reporter)
    for line in read_lines(sys.stdin.buffer):
        try:
            due = reader.due(line)
            logged = loop.journal.has(due.ticker, due.timestamp)
        except Exception as error:  # the boundary: every line gets an answer, and the next one is read
            loop.faults.add("context" if isinstance(error, InputError) else "internal")
            say_json(error_answer(error))
            continue
        if not logged:
            loop.cycle([due])
            continue
        reader.repeated += 1
        if due.given is None:
            say_json(error_answer(f"{due.ticker} at {due.timestamp.isoformat()}: is in the journal already"))
        else:  # a trader that asks more often than candles close gets its answers; a candle has one row
            loop.answer(due)
    loop.reporter.say(reader.summary())


def _fetcher(config: "Config", exchange: str | None) -> "Callable[[], None] | None":
    if exchange is None:
        return None
    from candletune.market.fetch_candles import fetch_pair, open_exchange

    client = open_exchange(exchange)

    def fetch() -> None:
        for pair in config.data.pairs:
            fetch_pair(client, config.data, pair)

    return fetch
