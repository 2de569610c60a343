"""`signal`, `serve`, `shadow`, `promote`, `rollback`: the live side."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from candletune.commands import CANDLES, RUN, open_session, with_config

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from candletune.config import Config
    from candletune.live.shadow import ShadowLoop


BOM = "\ufeff"
"""What PowerShell puts before text that it pipes."""
BASE = (("run.folder", "base.gguf"),)
"""Of these a command that only asks a model needs one when there is no configuration file."""


def _load(config_path: Path, assignments: tuple[str, ...], needs: "Sequence[Sequence[str]]" = (RUN,)) -> "Config":
    return open_session(config_path, assignments, needs=needs).config


@click.command(epilog='Example: echo \'{"ticker": "BTC", "price_usd": 97000, "rsi": 28.3}\' | candletune signal')
@with_config
@click.option("--serve", "keep", is_flag=True, help="Keep the model loaded: a JSON object a line in, one a line out.")
def signal(config_path: Path, assignments: tuple[str, ...], keep: bool) -> int:
    """Read one JSON context on standard input, answer one JSON object on standard output.

    `_lora_override` in the context asks another model once: `candidate`, `base`, the versioned name of an export, or
    the path of an adapter. Errors are JSON too, with `status`, and the usual exit codes.
    """
    from candletune.errors import CandletuneError
    from candletune.live.signal import Trader, answer_text, error_answer

    try:
        trader = Trader(_load(config_path, assignments, BASE), warn=_warn)
    except CandletuneError as error:
        _say(error_answer(error))
        click.echo(f"error: {error}", err=True)
        return error.exit_code
    try:
        if not keep:
            answer, code = answer_text(trader, sys.stdin.read().removeprefix(BOM))
            _say(answer)
            return code
        for line in sys.stdin:
            if line.removeprefix(BOM).strip():
                _say(answer_text(trader, line.removeprefix(BOM))[0])
        return 0
    finally:
        trader.close()


@click.command(epilog="Example: candletune serve --port 8377   then   curl -d @context.json localhost:8377/signal")
@with_config
@click.option("--port", type=click.IntRange(0, 65535), help="Port; 0 takes any free one.")
def serve(config_path: Path, assignments: tuple[str, ...], port: int | None) -> None:
    """Answer POST /signal on loopback; also /health, /ready and /metrics. Ends cleanly on SIGTERM and Ctrl-C."""
    from candletune.live.signal import Trader
    from candletune.web.guard import check_loopback
    from candletune.web.serve import serve_forever
    from candletune.web.socket import listen

    config = _load(config_path, assignments, BASE)
    bound = listen(check_loopback(config.live.host), config.live.port if port is None else port, key="live.port")
    number = bound.getsockname()[1]
    trader = Trader(config, warn=_warn)
    click.echo(f"serving {trader.active.name} on http://{config.live.host}:{number}/signal", err=True)
    serve_forever(trader, bound, queue=config.live.queue)


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
    from candletune.errors import UsageError
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
    loop = open_loop(config, trader, emit=_say, reporter=reporter)
    reporter.say(f"active: {trader.active.name}; journal: {config.live.journal}")
    notifier = Notifier(config.notify, reporter.warn)
    loop.fault = lambda text: notifier.tell(Event.FAULT, "fault of the candidate", text)
    try:
        if from_stdin:
            _follow_stdin(loop, config)
        else:
            reporter.say(f"{_follow_candles(loop, config, once=once, exchange=exchange)} rows written")
    finally:
        trader.close()
        notifier.close()


def _tell(config: "Config", event: str, title: str, reason: str) -> None:
    """Tell people who acts now (`notify.urls`)."""
    from candletune.notify import Event, Notifier

    with Notifier(config.notify, lambda text: click.echo(f"warning: {text}", err=True)) as notifier:
        notifier.tell(Event(event), title, f"{title}\nreason: {reason}")


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
    return watch(config, loop, once=once, fetch=_fetcher(config, exchange), stop=ended.is_set, pause=ended.wait)


def _warn(sentence: str) -> None:
    click.echo(f"warning: {sentence}", err=True)


def _say(answer: "Mapping[str, Any]") -> None:
    import json

    sys.stdout.write(json.dumps(answer, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def _follow_stdin(loop: "ShadowLoop", config: "Config") -> None:
    """A wrong line is answered with an error and the next one is read, as `signal --serve` does."""
    from candletune.errors import InputError
    from candletune.live.contexts import ContextReader
    from candletune.live.signal import error_answer

    reader = ContextReader(config, loop.reporter)
    for line in iter(sys.stdin.readline, ""):
        text = line.removeprefix(BOM)
        if not text.strip():
            continue
        try:
            due = reader.due(text)
        except InputError as error:
            _say(error_answer(error))
            continue
        if not loop.journal.has(due.ticker, due.timestamp):
            loop.cycle([due])
            continue
        reader.repeated += 1
        if due.given is None:
            _say(error_answer(f"{due.ticker} at {due.timestamp.isoformat()}: is in the journal already"))
        else:  # a trader that asks more often than candles close gets its answers; a candle has one row
            loop.answer(due)
    loop.reporter.say(reader.summary())


def _fetcher(config: "Config", exchange: str | None) -> Any:
    if exchange is None:
        return None
    from candletune.market.fetch_candles import fetch_pair, open_exchange

    client = open_exchange(exchange)

    def fetch() -> None:
        for pair in config.data.pairs:
            fetch_pair(client, config.data, pair)

    return fetch


@click.command(epilog="Example: candletune promote   or   candletune promote --force 'paper account only'")
@with_config
@click.option("--force", metavar="REASON", help="Promote without a verdict; the reason is kept in the history.")
def promote(config_path: Path, assignments: tuple[str, ...], force: str | None) -> None:
    """Make what the run exported last active: the adapter, or the merged model.

    Wants a verdict of promote, under the full criteria, for this very file over the one that acts now.
    """
    from candletune.live import promotion

    config = _load(config_path, assignments)
    model = promotion.promote(config, force=force)
    _tell(config, "promotion", f"promoted: {model.name}", force or "the verdict is promote")
    click.echo(f"active: {model.name} ({model.sha256}); `candletune rollback` goes back", err=True)


@click.command(epilog="Example: candletune rollback --reason 'flips too often'")
@with_config
@click.option("--reason", default="", help="Kept in the history.")
def rollback(config_path: Path, assignments: tuple[str, ...], reason: str) -> None:
    """Go back to the model that acted before the last promotion."""
    from candletune.live import promotion

    config = _load(config_path, assignments, (("live.state",),))
    model = promotion.rollback(config, reason=reason)
    _tell(config, "rollback", f"rolled back: {model.name} acts again", reason or "none given")
    click.echo(f"active: {model.name} ({model.sha256 or 'the base without an adapter'})", err=True)
