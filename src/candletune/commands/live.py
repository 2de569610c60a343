"""`signal`, `serve`, `promote`, `rollback`: who acts, and what it answers."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from candletune.commands import RUN, open_session, say_line, with_config
from candletune.commands.result import say_result, with_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from candletune.config import Config


BASE = (("run.folder", "base.gguf"),)
"""Of these a command that only asks a model needs one when there is no configuration file."""
DIGITS = 12
"""Of a hash, enough to compare by eye with what `status` shows."""


def _load(config_path: Path, assignments: tuple[str, ...], needs: "Sequence[Sequence[str]]" = (RUN,)) -> "Config":
    return open_session(config_path, assignments, needs=needs).config


@click.command(epilog='Example: echo \'{"ticker": "BTC", "price_usd": 97000, "rsi": 28.3}\' | candletune signal')
@with_config
@click.option("--serve", "keep", is_flag=True, help="Keep the model loaded: a JSON object a line in, one a line out.")
def signal(config_path: Path, assignments: tuple[str, ...], keep: bool) -> int:
    """Read one JSON context on standard input, answer one JSON object on standard output.

    `_lora_override` in the context asks another model once: `candidate`, `base`, the versioned name of an export, the
    name of a file in `live.adapters`, or the path of an adapter. Errors are JSON too, with `status`, and the usual
    exit codes.
    """
    from candletune.errors import CandletuneError, InputError
    from candletune.live.lines import MAX_LINE, error_answer, read_lines
    from candletune.live.signal import UNSERVED, Trader, answer_text

    try:
        trader = Trader(_load(config_path, assignments, BASE), warn=_warn)
    except CandletuneError as error:
        say_json(error_answer(error))
        click.echo(f"error: {error}", err=True)
        return error.exit_code
    try:
        if not keep:
            answer, code = answer_text(trader, sys.stdin.buffer.read(MAX_LINE + 1))
            say_json(answer)
            return InputError.exit_code if code == UNSERVED else code
        begin_on_a_fresh_line()
        for line in read_lines(sys.stdin.buffer):
            say_json(answer_text(trader, line)[0])
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
    serve_forever(trader, bound, queue=config.live.queue, stuck_seconds=config.live.stuck_seconds)


def _tell(config: "Config", event: str, title: str, reason: str) -> None:
    """Tell people who acts now (`notify.urls`)."""
    from candletune.notify import Event, Notifier

    with Notifier(config.notify, lambda text: click.echo(f"warning: {text}", err=True)) as notifier:
        notifier.tell(Event(event), title, f"{title}\nreason: {reason}")


def _warn(sentence: str) -> None:
    say_line("warning", sentence)


def begin_on_a_fresh_line() -> None:
    """An earlier process may have been cut off in the middle of a line of the file that answers are appended to."""
    from candletune.files import ends_mid_line

    try:
        torn = ends_mid_line(sys.stdout.fileno())
    except (OSError, ValueError):  # no file behind it
        return
    if torn:
        sys.stdout.write("\n")
        sys.stdout.flush()


def say_json(answer: "Mapping[str, Any]") -> None:
    import json

    sys.stdout.write(json.dumps(answer, ensure_ascii=False) + "\n")
    sys.stdout.flush()


@click.command(epilog="Example: candletune promote   or   candletune promote --force 'paper account only'")
@with_config
@with_json
@click.option("--force", metavar="REASON", help="Promote without a verdict; the reason is kept in the history.")
def promote(config_path: Path, assignments: tuple[str, ...], force: str | None) -> None:
    """Make what the run exported last active: the adapter, or the merged model.

    Wants a verdict of promote, under the full criteria, for this very file over the one that acts now.
    """
    from candletune.live import promotion

    config = _load(config_path, assignments)
    model = promotion.promote(config, force=force)
    _tell(config, "promotion", f"promoted: {model.name}", force or "the verdict is promote")
    click.echo(f"active: {model.name} ({str(model.sha256)[:DIGITS]}); `candletune rollback` goes back", err=True)
    say_result(active=model.name, sha256=model.sha256)


@click.command(epilog="Example: candletune rollback --reason 'flips too often'")
@with_config
@with_json
@click.option("--reason", default="", help="Kept in the history.")
def rollback(config_path: Path, assignments: tuple[str, ...], reason: str) -> None:
    """Go back to the model that acted before the last promotion."""
    from candletune.live import promotion

    config = _load(config_path, assignments, (("live.state",),))
    model = promotion.rollback(config, reason=reason)
    _tell(config, "rollback", f"rolled back: {model.name} acts again", reason or "none given")
    which = model.sha256[:DIGITS] if model.sha256 else "the base without an adapter"
    click.echo(f"active: {model.name} ({which})", err=True)
    say_result(active=model.name, sha256=model.sha256)
