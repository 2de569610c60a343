#!/usr/bin/env python3
"""Pictures of every page that candletune writes or serves, at three widths, light and dark: `make screenshots`.

Usage: python tools/screenshots.py [FOLDER] [PAGE...]

The runs are made here (a simulated market, two seeded deciders, a training log,
exports that answer at random), and served by `candletune ui` in this
process. FOLDER (screenshots) gets PAGE-WIDTH-SCHEME.png; PAGE chooses among the names below. Needs Chromium
(CANDLETUNE_CHROMIUM, or on the path) and the development extras.
"""

import json
import math
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "live"))

from candletune.config import Config
from candletune.console import SilentReporter
from candletune.journal import Journal
from candletune.runs import RunFolder
from candletune.stages.report import STAGE
from candletune.stages.runner import run_stage
from fake_exports import Opened, export
from simulated_run import live_row, make_run

WIDTHS = (1440, 768, 390)
SCHEMES = ("light", "dark")
PAGES = {
    "runs": "/",
    "run": "/run/first/",
    "compare": "/compare",
    "ask": "/ask",
    "report": "/run/first/report",
    "card": "/run/first/card",
    "start": "/run/first/start",
    "review": "/run/first/review/1",
    "result": "/run/first/results?anyway=1",
    "live": "/run/first/live",
    "problem": "/run/nowhere/",
}
SHOW_ALL = """async () => {
    document.querySelectorAll("details:has([data-plot])").forEach((part) => { part.open = true; });
    for (const box of document.querySelectorAll("[data-plot], #calls-chart")) {
        box.scrollIntoView({ behavior: "instant", block: "center" });
        // On a busy machine a frame takes long, and what no frame shows is not drawn.
        const drawn = () => box.dataset.drawn || box.dataset.ready;
        for (let tries = 0; !drawn() && tries < 300; tries += 1) await new Promise((done) => setTimeout(done, 30));
    }
    scrollTo(0, 0);
}"""


def make_runs(folder: Path) -> tuple[Config, RunFolder]:
    """Two evaluated runs with a training log, the first with a shadow journal; returns the first."""
    made = []
    for place, (name, rate) in enumerate((("first", "2e-4"), ("second", "5e-4"))):
        given = (f"run.folder={folder / 'runs' / name}", f"train.learning_rate={rate}")
        config, run = make_run(folder, *given, rows=2400, skill=0.75 - 0.2 * place, sure=True)
        log_training(run, place)
        export(run, name, "2026-11-01")
        with run.lock():
            run_stage(STAGE, config, run, SilentReporter())
        made.append((config, run))
    Journal(made[0][0].live.journal).append_many([live_row(made[0][0], hours) for hours in range(60)])
    return made[0]


def log_training(run: RunFolder, place: int = 0, steps: int = 300) -> None:
    """What a training of so many steps would have logged, made up."""
    run.train_metrics.parent.mkdir(exist_ok=True)
    lines: list[dict[str, float]] = []
    for step in range(1, steps + 1):
        lines.append({"step": step, "loss": 2 / (step + 5) + 0.3 + 0.08 * place + 0.04 * math.sin(step * (place + 1))})
        if step % 50 == 0:
            share = 0.38 + step / (1200 + 900 * place)
            lines.append(
                {"step": step, "eval_log_loss": 1.1 - step / (2000 + 900 * place), "eval_accuracy": share + 0.02}
            )
            lines[-1]["eval_balanced_accuracy"] = share
    run.train_metrics.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


@contextmanager
def served(config: Config, root: Path) -> Iterator[str]:
    """The address of `candletune ui` over the runs below a folder."""
    import uvicorn

    from candletune.web.asking import Asker
    from candletune.web.socket import listen
    from candletune.web.stream import Streams
    from candletune.web.ui import create_ui

    with listen("127.0.0.1", 0) as socket:
        port, streams = socket.getsockname()[1], Streams()
        app = create_ui(config, [root], port=port, streams=streams, asker=Asker(Opened()))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{port}"
        streams.end()
        server.should_exit = True
        thread.join(10)


def take(browser: Any, home: str, out: Path, names: list[str]) -> None:
    """Every page of the names, at every width, in both schemes."""
    for width in WIDTHS:
        for scheme in SCHEMES:
            context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
            context.add_cookies([{"name": "candletune_reviewer", "value": "Ada", "url": home}])
            page = context.new_page()
            for name in names:
                page.goto(home + PAGES[name])
                page.evaluate(SHOW_ALL)
                if name == "ask":
                    page.get_by_role("button", name="Ask").click()
                page.wait_for_timeout(400)
                page.screenshot(path=out / f"{name}-{width}-{scheme}.png", full_page=True)
                wide = page.evaluate("document.documentElement.scrollWidth")
                print(f"{name}-{width}-{scheme}.png{'' if wide <= width else f': {wide} pixels wide'}", flush=True)
            context.close()


def main(out: Path, names: list[str]) -> None:
    """Make the runs, serve them, take the pictures."""
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("CANDLETUNE_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise SystemExit("Chromium is not installed: apt-get install chromium, or set CANDLETUNE_CHROMIUM")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        config, run = make_runs(Path(folder))
        with served(config, run.path.parent) as home:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            take(browser, home, out, names or list(PAGES))
            browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "screenshots"), sys.argv[2:])
