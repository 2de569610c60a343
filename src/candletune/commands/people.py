"""`review` and `status`."""

from pathlib import Path

import click

from candletune.commands import with_config


@click.command(epilog="Example: candletune review --no-browser")
@with_config
@click.option("--port", type=click.IntRange(0, 65535), help="Port (default: review.port; 0: any free one).")
@click.option("--browser/--no-browser", default=True, show_default=True, help="Open the page in a browser.")
def review(config_path: Path, assignments: tuple[str, ...], port: int | None, browser: bool) -> None:
    """Serve the blind review, its result and the live view on this machine only; Ctrl-C stops it."""
    try:
        import uvicorn

        from candletune.web.review import create_app
    except ImportError as error:
        from candletune.errors import UsageError

        raise UsageError(f"{error.name} is not installed; pip install 'candletune[serve]'") from None
    from candletune.config import load_config
    from candletune.console import RichReporter
    from candletune.runs import RunFolder
    from candletune.stages.pipeline import prepare
    from candletune.web.guard import check_loopback
    from candletune.web.socket import listen

    config = load_config(config_path, assignments)
    host = check_loopback(config.live.host)
    run = RunFolder(config.run.folder)
    reporter = RichReporter()
    if config.simulate.enabled:
        with run.lock():
            config = prepare(config, run, reporter)
    socket = listen(host, config.review.port if port is None else port)
    with socket:
        chosen = int(socket.getsockname()[1])
        address = f"http://{'localhost' if ':' in host else host}:{chosen}/"
        app = create_app(config, run, port=chosen)
        reporter.say(f"review, result and live view: {address}  (Ctrl-C stops; every answer is saved at once)")
        if browser:
            click.launch(address)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", server_header=False, proxy_headers=False))
        server.run(sockets=[socket])


@click.command(epilog="Example: candletune status --config candletune.toml")
@with_config
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def status(config_path: Path, assignments: tuple[str, ...], as_json: bool) -> None:
    """Show the run's stages, its adapters and certificates, the verdict, and which adapter is active."""
    import json

    from candletune.config import load_config
    from candletune.runs import RunFolder
    from candletune.status import print_status, status_of

    config = load_config(config_path, assignments)
    found = status_of(config, RunFolder(config.run.folder))
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        print_status(found)
