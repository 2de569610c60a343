"""`journal`: import somebody else's A/B log; look through a journal, and repair it."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from candletune.commands import open_session, with_config
from candletune.commands.result import say_result, with_json

if TYPE_CHECKING:
    from candletune.artifacts.journal_import import JournalImport
    from candletune.console import Reporter
    from candletune.journal.repair import Examination

_SHOWN = 20


@click.group(epilog="Example: candletune journal import ab_test_log.jsonl --output imported.jsonl --timezone UTC")
def journal() -> None:
    """Import an A/B log of your own, look through a journal, repair one."""


@journal.command(
    "import",
    epilog="Example: candletune journal import log.csv --output ab.jsonl --map timestamp=at --map ticker=coin",
)
@click.argument("source", type=click.Path(path_type=Path))
@with_config
@with_json
@click.option("--output", type=click.Path(path_type=Path), required=True, help="The journal to write; a new file.")
@click.option(
    "--map",
    "columns",
    multiple=True,
    metavar="FIELD=COLUMN",
    help="The log's column of timestamp, ticker, price, active, shadow, active_reasoning or shadow_reasoning.",
)
@click.option("--timezone", default="", metavar="ZONE", help="Of stamps that say none: UTC, Europe/Stockholm, ...")
def import_command(
    source: Path,
    config_path: Path,
    assignments: tuple[str, ...],
    output: Path,
    columns: tuple[str, ...],
    timezone: str,
) -> None:
    """Read JSON lines, a JSON list or csv; write a journal, and what was left out beside it.

    Each row needs a time, a ticker, a price, and both predictions: BUY, SELL or HOLD, an answer's text, or an object.
    Stamps are brought back to the close of the last candle (data.timeframe). Lines that are no rows are named.
    """
    from datetime import UTC, datetime

    from candletune.journal.importing import ImportSettings, import_log
    from candletune.market.candles import ticker_of

    session = open_session(config_path, assignments, needs=())
    data = session.config.data
    settings = ImportSettings(
        tickers=[ticker_of(pair) for pair in data.pairs],
        timeframe=data.timeframe,
        columns=dict(_pair(text) for text in columns),
        zone=timezone,
        now=datetime.now(UTC),
    )
    summary = import_log(source, output, settings)
    _report(summary, source, output, session.reporter)
    say_result(journal=output, **summary.model_dump(mode="json"))


@journal.command(
    epilog="Example: candletune journal check   or   candletune journal check runs/btc/replay/ab_test_log.jsonl"
)
@click.argument("path", required=False, type=click.Path(path_type=Path))
@with_config
@with_json
def check(path: Path | None, config_path: Path, assignments: tuple[str, ...]) -> None:
    """Read every row of a journal (live.journal by default) and compare it with its checksum.

    Writes nothing. Exit code 4 when a line is broken, unfinished, or a second row of its candle.
    """
    from candletune.errors import CheckFailed
    from candletune.journal.repair import examine

    path, reporter = _journal_of(path, config_path, assignments)
    found = examine(path)
    _show(path, found, reporter)
    say_result(journal=path, **asdict(found))
    if found.faults:
        raise CheckFailed(f"{path}: {found.headline}; `candletune journal repair {path}` takes those lines out")
    reporter.say(f"{path}: {found.headline}")


@journal.command(epilog="Example: candletune journal repair   or   candletune journal repair old/ab_test_log.jsonl")
@click.argument("path", required=False, type=click.Path(path_type=Path))
@with_config
@with_json
def repair(path: Path | None, config_path: Path, assignments: tuple[str, ...]) -> None:
    """Take the lines that are no rows out of a journal (live.journal by default).

    The file as it was is kept beside it first; good rows stay byte for byte. A running loop waits, and goes on.
    """
    from candletune.journal.repair import repair as repaired

    path, reporter = _journal_of(path, config_path, assignments)
    found, kept = repaired(path)
    _show(path, found, reporter)
    say_result(journal=path, kept=kept, **asdict(found))
    if kept is None:
        reporter.say(f"{path}: {found.headline}; nothing to repair")
    else:
        reporter.say(f"{path}: {found.rows} rows kept, {len(found.faults)} lines taken out; as it was: {kept}")


def _journal_of(path: Path | None, config_path: Path, assignments: tuple[str, ...]) -> "tuple[Path, Reporter]":
    session = open_session(config_path, assignments, needs=() if path else (("live.journal",),))
    return path or session.config.live.journal, session.reporter


def _show(path: Path, found: "Examination", reporter: "Reporter") -> None:
    for fault in found.faults[:_SHOWN]:
        reporter.warn(f"{path}:{fault.line}: {fault.kind}: {fault.why}")
    if len(found.faults) > _SHOWN:
        reporter.warn(f"{path}: {len(found.faults) - _SHOWN} more lines")


def _pair(text: str) -> tuple[str, str]:
    field, equals, column = text.partition("=")
    if not (field and equals and column):
        from candletune.errors import UsageError

        raise UsageError(f"--map {text}: expected FIELD=COLUMN, for example --map ticker=symbol")
    return field.strip(), column.strip()


def _report(summary: "JournalImport", source: Path, output: Path, reporter: "Reporter") -> None:
    for bad in summary.bad[:_SHOWN]:
        reporter.warn(f"{source}:{bad.line}: left out: {bad.problem}")
    if len(summary.bad) > _SHOWN:
        reporter.warn(f"{source}: {len(summary.bad) - _SHOWN} more lines left out; all are in {output}.import.json")
    if summary.other_tickers:
        others = ", ".join(f"{ticker} {count}" for ticker, count in summary.other_tickers.items())
        reporter.warn(f"{source}: rows of tickers that data.pairs has no pair for are left out: {others}")
    if summary.same_candle:
        reporter.warn(
            f"{source}: {summary.same_candle} rows left out: their ticker has an earlier row in the same "
            f"{summary.timeframe} candle"
        )
    if summary.moved:
        reporter.warn(
            f"{source}: {summary.moved} stamps were not a {summary.timeframe} candle's close and were brought back to "
            f"the last one, by {summary.most_moved_seconds / 60:.0f} minutes at most"
        )
    sides = "; ".join(
        f"{side}: " + ", ".join(f"{count} {status}" for status, count in counts.items())
        for side, counts in summary.statuses.items()
    )
    reporter.say(
        f"{output}: {summary.rows} rows of {summary.lines} lines, {len(summary.bad)} bad ({sides}); next: candletune "
        f"evaluate --journal {output}"
    )
