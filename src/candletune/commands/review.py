"""`review`: blind review of the reasonings, on a local page."""

from pathlib import Path

import click

from candletune.commands import RUN, Session, open_session, with_config


@click.command(epilog="Example: candletune review --no-browser")
@with_config
@click.option("--port", type=click.IntRange(0, 65535), help="Port (default: review.port; 0: any free one).")
@click.option("--journal", type=click.Path(path_type=Path), help="Review the reasons in this journal, a shadow test's.")
@click.option("--browser/--no-browser", default=True, show_default=True, help="Open the page in a browser.")
def review(
    config_path: Path, assignments: tuple[str, ...], port: int | None, journal: Path | None, browser: bool
) -> None:
    """Serve the blind review, its result and the live view on this machine only; Ctrl-C stops it."""
    try:
        from candletune.web.review import create_app
        from candletune.web.server import server_of
    except ImportError as error:
        from candletune.errors import UsageError

        raise UsageError(f"{error.name} is not installed; pip install fastapi uvicorn") from None
    from candletune.web.guard import check_loopback
    from candletune.web.socket import listen

    overrides = {"review.journal": journal} if journal is not None else None
    session = open_session(config_path, assignments, needs=(RUN,), overrides=overrides)
    host = check_loopback(session.config.live.host)
    _check_something_to_show(session)
    config, run, reporter = session.with_candles(), session.run, session.reporter
    socket = listen(host, config.review.port if port is None else port)
    with socket:
        chosen = int(socket.getsockname()[1])
        address = f"http://{'localhost' if ':' in host else host}:{chosen}/"
        app = create_app(config, run, port=chosen)
        reporter.say(f"review, result and live view: {address}  (Ctrl-C stops; every answer is saved at once)")
        if browser:
            click.launch(address)
        server_of(app).run(sockets=[socket])


def _check_something_to_show(session: Session) -> None:
    """Neither a replay nor a shadow journal: a page would only say so."""
    from candletune.errors import InputError

    run, live, named = session.run, session.config.live.journal, session.config.review.journal
    if named is not None and not named.exists():
        raise InputError(f"{named}: no such file; give the journal of a shadow test (--journal)")
    if named is None and not run.journal.exists() and not live.exists():
        raise InputError(
            f"{run.journal}: no such file, and no {live} either, so there is nothing to review; "
            "run `candletune replay` (or `candletune shadow`) first"
        )
