"""`ui`: every run on one local page."""

from pathlib import Path

import click

from candletune.commands import open_session, with_config


@click.command(epilog="Example: candletune ui   or   candletune ui runs/demo --no-browser")
@with_config
@click.argument("folders", nargs=-1, metavar="[FOLDER]...", type=click.Path(path_type=Path))
@click.option("--port", type=click.IntRange(0, 65535), default=8379, show_default=True, help="Port; 0: any free one.")
@click.option("--browser/--no-browser", default=True, show_default=True, help="Open the page in a browser.")
def ui(config_path: Path, assignments: tuple[str, ...], folders: tuple[Path, ...], port: int, browser: bool) -> None:
    """Serve every run on this machine only: stages and training as they go, report, review, live view,
    a comparison, and one question to several models.

    FOLDER is a run folder, or a folder in which runs lie; none: the folder that holds run.folder. Ctrl-C stops it.
    """
    try:
        from candletune.web.asking import Asker
        from candletune.web.server import server_of
        from candletune.web.ui import create_ui
    except ImportError as error:
        from candletune.errors import UsageError

        raise UsageError(f"{error.name} is not installed; pip install fastapi uvicorn") from None
    from candletune.web.guard import check_loopback
    from candletune.web.socket import listen
    from candletune.web.stream import Streams

    _check_folders(folders)
    session = open_session(config_path, assignments, needs=())
    config = session.config
    host = check_loopback(config.live.host)
    roots = [folder.resolve() for folder in folders] or [config.run.folder.parent]
    with listen(host, port, key="ui") as socket:
        chosen = int(socket.getsockname()[1])
        streams, asker = Streams(), Asker()
        app = create_ui(config, roots, port=chosen, streams=streams, asker=asker)
        address = f"http://{'localhost' if ':' in host else host}:{chosen}/"
        session.reporter.say(f"runs below {', '.join(map(str, roots))}: {address}  (Ctrl-C stops)")
        if browser:
            click.launch(address)

        def ending() -> None:
            streams.end()
            asker.end()

        try:
            server_of(app, ending=ending).run(sockets=[socket])
        finally:
            asker.close()


def _check_folders(folders: tuple[Path, ...]) -> None:
    from candletune.errors import UsageError

    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"{folder}: no such folder; name a run folder, or a folder in which runs lie")
