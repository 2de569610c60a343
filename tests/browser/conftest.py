"""Chromium, a served run and axe-core; each is skipped, saying so, where it can't be had."""

import io
import os
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from candletune.config import Config
from candletune.console import SilentReporter
from candletune.files import write_text
from candletune.journal import Journal
from candletune.runs import RunFolder
from candletune.stages.report import STAGE
from candletune.stages.runner import run_stage
from fake_exports import Opened, export
from simulated_run import HOSTILE, live_row, log_steps, make_run

AXE = "axe-core@4.14.1"


@dataclass
class Served:
    """A run behind its own port."""

    config: Config
    run: RunFolder
    home: str

    @property
    def report(self) -> str:
        """The report as a file, the way people open it."""
        return self.run.report.as_uri()

    @property
    def card(self) -> str:
        """The dataset card, likewise."""
        return self.run.card.as_uri()


def chromium_path() -> str:
    """Debian's Chromium, or CANDLETUNE_CHROMIUM."""
    found = os.environ.get("CANDLETUNE_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if not found:
        pytest.skip("Chromium is not installed: apt-get install chromium, or set CANDLETUNE_CHROMIUM")
    return found


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser. Playwright keeps an event loop running, so it must be gone before other areas' tests run theirs."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = chromium_path()
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    import uvicorn

    from candletune.web.review import create_app
    from candletune.web.socket import listen

    config, run = make_run(tmp_path_factory.mktemp("browser"), reason=HOSTILE)
    with run.lock():
        run_stage(STAGE, config, run, SilentReporter())
    Journal(config.live.journal).append_many([live_row(config, hours) for hours in range(40)])
    socket = listen("127.0.0.1", 0)
    port = socket.getsockname()[1]
    app = create_app(config, run, port=port)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
    thread.start()
    yield Served(config, run, f"http://127.0.0.1:{port}")
    server.should_exit = True
    thread.join(10)
    socket.close()


@pytest.fixture(scope="session")
def served_ui(served: Served) -> Iterator[str]:
    """`candletune ui` over the same run, as `/run/run/`; its training has logged a little."""
    import uvicorn

    from candletune.web.asking import Asker
    from candletune.web.socket import listen
    from candletune.web.stream import Streams
    from candletune.web.ui import create_ui

    served.run.train_metrics.parent.mkdir()
    log_steps(served.run, 1, 60)
    export(served.run, "old", "2026-10-01")
    export(served.run, "new", "2026-11-02")
    streams = Streams(every=0.1)
    with listen("127.0.0.1", 0) as socket:
        port = socket.getsockname()[1]
        app = create_ui(served.config, [served.run.path.parent], port=port, streams=streams, asker=Asker(Opened()))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{socket.getsockname()[1]}"
        streams.end()
        server.should_exit = True
        thread.join(10)


@dataclass
class Watched:
    """A page, and everything it complained about or asked for."""

    page: Any
    complaints: list[str]
    requests: list[str]

    def draw_all(self) -> None:
        """Scroll a report through, so that every chart comes near the screen, and wait for them."""
        self.page.evaluate(
            """async () => {
                document.querySelectorAll("details:has([data-plot])").forEach((part) => { part.open = true; });
                for (const box of document.querySelectorAll("[data-plot]")) {
                    box.scrollIntoView({ behavior: "instant", block: "center" });
                    // On a busy machine a frame takes long, and what no frame shows is not drawn.
                    for (let tries = 0; !box.dataset.drawn && tries < 2000; tries += 1) {
                        await new Promise((done) => setTimeout(done, 30));
                    }
                }
            }"""
        )
        self.page.wait_for_selector("[data-plot]:not([data-drawn])", state="detached")


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Any]:
    contexts = []

    def start(*, width: int = 1240, height: int = 900, scheme: str = "light") -> Watched:
        context = chromium.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)  # a busy machine draws nine plots slowly
        watched = Watched(page, [], [])
        page.on("console", lambda message: watched.complaints.append(message.text))
        page.on("pageerror", lambda error: watched.complaints.append(str(error)))
        page.on("request", lambda request: watched.requests.append(request.url))
        return watched

    yield start
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def axe() -> str:
    """axe-core's script from the npm registry, kept in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "candletune"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / f".{AXE}.lock"):  # test processes run side by side
        script = cache / f"{AXE}.js"
        if not script.exists():
            write_text(script, fetch_axe(cache))
    return script.read_text(encoding="utf-8")


def fetch_axe(folder: Path) -> str:
    """axe-core's script as the npm registry has it; skips where it can't be had."""
    if shutil.which("npm") is None:
        pytest.skip(f"npm is not installed, so {AXE} can't be had")
    command = ["npm", "pack", AXE, "--silent", "--pack-destination", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    packed = folder / f"{AXE.replace('@', '-')}.tgz"
    if done.returncode or not packed.exists():
        pytest.skip(f"{AXE} can't be had from the npm registry: {done.stderr.strip()[-200:]}")
    with tarfile.open(fileobj=io.BytesIO(packed.read_bytes())) as archive:
        member = archive.extractfile("package/axe.min.js")
        assert member is not None
        text = member.read().decode("utf-8")
    packed.unlink()
    return text
