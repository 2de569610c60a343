"""How large the report of a 10,000-row journal is, and how fast it opens, beside a bare page of Plotly's own.

    python bench/report.py [ROWS]

Both pages are opened in Chromium from disk, five times each in turn; the medians and their ratio are printed. The peer
holds plotly.js and one empty chart: what any self-contained Plotly page costs.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from candletune.assets import PLOTLY, asset
from candletune.console import SilentReporter
from candletune.stages.report import STAGE
from simulated_run import make_run

PEER = '<!doctype html><title>peer</title><div id="p"></div><script>{}</script><script>Plotly.newPlot("p", [])</script>'


def opened(browser: Any, path: Path, ready: str) -> float:
    """Seconds from asking for the page until its first screen, chart or verdict, is there."""
    page = browser.new_context().new_page()
    start = time.perf_counter()
    page.goto(path.as_uri())
    page.wait_for_selector(ready)
    seconds = time.perf_counter() - start
    page.context.close()
    return seconds


def main(rows: int) -> None:
    """Make both pages, open them, print."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        config, run = make_run(Path(folder), "simulate.years=1.2", rows=rows)
        start = time.perf_counter()
        STAGE.work(config, run, SilentReporter())
        written = time.perf_counter() - start
        ours, peer = run.file("report", "index.html"), Path(folder) / "peer.html"
        peer.write_text(PEER.format(asset(PLOTLY)), encoding="utf-8")
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        times: dict[str, list[float]] = {"ours": [], "peer": []}
        for _ in range(5):
            times["ours"].append(opened(browser, ours, "h1"))
            times["peer"].append(opened(browser, peer, "#p .main-svg"))
        browser.close()
        mine, other = (statistics.median(times[name]) for name in ("ours", "peer"))
        print(f"{rows} rows: written in {written:.2f} s, {ours.stat().st_size / 1e6:.2f} MB")
        print(f"opens in {mine:.2f} s, a bare Plotly page in {other:.2f} s: ratio {mine / other:.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
