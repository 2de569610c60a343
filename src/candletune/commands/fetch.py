"""`fetch fear-greed` and `fetch candles`: bring what `dataset` reads, for people who do not run freqtrade."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from candletune.commands import SuggestingGroup, open_session, with_config
from candletune.commands.result import say_result, with_json

if TYPE_CHECKING:
    from datetime import datetime


@click.group(cls=SuggestingGroup, epilog="Example: candletune fetch candles --since 2021-01-01")
def fetch() -> None:
    """Bring candles or the Fear & Greed history; what is on disk is added to, never replaced by less."""


@fetch.command("fear-greed", epilog="Example: candletune fetch fear-greed --output user_data/fear_greed.csv")
@with_config
@with_json
@click.option("--output", type=click.Path(path_type=Path), help="The csv file; default: data.fear_greed.")
@click.option("--url", help="Another address of the API.")
def fear_greed(config_path: Path, assignments: tuple[str, ...], output: Path | None, url: str | None) -> None:
    """Add the Fear & Greed Index's days to a csv file (alternative.me, a value a day since 2018)."""
    from candletune.config_file import toml_value
    from candletune.market.fetch_fear_greed import URL, fetch_fear_greed

    session = open_session(config_path, assignments, needs=())  # fetching is the first thing some people do
    config, reporter = session.config, session.reporter
    target = output or config.data.fear_greed or config.data.folder / "fear_greed.csv"
    fetched = fetch_fear_greed(target, url=url or URL)
    reporter.say(f"{target}: {fetched.added} days added, {fetched.total} in all")
    if fetched.differing:
        reporter.warn(f"{target}: {fetched.differing} days read otherwise on the server now; the values on disk stay")
    if config.data.fear_greed is None:
        reporter.say(
            f"use it with these lines in your configuration:\n[data]\nfear_greed = {toml_value(target.absolute())}"
        )
    say_result(path=target, added=fetched.added, total=fetched.total, differing=fetched.differing)


@fetch.command("candles", epilog="Example: candletune fetch candles --exchange kraken --since 2022-01-01")
@with_config
@with_json
@click.option("--exchange", help="ccxt's name; default: binanceusdm for futures pairs, binance for spot pairs.")
@click.option(
    "--since", type=click.DateTime(["%Y-%m-%d"]), help="First day (UTC); default: where the file begins, or 2020-01-01."
)
@click.option("--url", help="Another scheme and host of the exchange's API (a mirror).")
def candles(
    config_path: Path,
    assignments: tuple[str, ...],
    exchange: str | None,
    since: "datetime | None",
    url: str | None,
) -> None:
    """Add closed candles of data.pairs to freqtrade's feather files in data.folder; resumes where it stopped."""
    from datetime import UTC

    from candletune.market.fetch_candles import fetch_pair, open_exchange

    session = open_session(config_path, assignments, needs=())  # fetching is the first thing some people do
    config, reporter = session.config, session.reporter
    start = None if since is None else since.replace(tzinfo=UTC)
    clients = {}
    pairs = []
    for pair in config.data.pairs:
        name = exchange or ("binanceusdm" if ":" in pair else "binance")
        if name not in clients:
            clients[name] = open_exchange(name, url)
        with reporter.task(f"{pair} {config.data.timeframe}") as task:
            done = fetch_pair(
                clients[name],
                config.data,
                pair,
                since=start,
                page_done=lambda time, task=task: task.advance(note=f"{time:%Y-%m-%d}"),  # type: ignore[misc]
            )
        reporter.say(
            f"{done.path}: {done.added} candles added, {done.total} in all, {done.first:%Y-%m-%d %H:%M} to "
            f"{done.last:%Y-%m-%d %H:%M}"
        )
        facts = {"path": done.path, "added": done.added, "total": done.total, "first": done.first, "last": done.last}
        pairs.append({"pair": pair, **facts})
    say_result(pairs=pairs)
