"""How smoothly a report of many calls moves: frame times of panning, zooming and scrolling, in Chromium.

    python bench/report_frames.py [ROWS]

The report of a journal of ROWS decisions (50,000), or of the named file, is opened from disk. Printed are its size, the
seconds until it can be used and until the chart of calls is ready, and of each movement the median, the 95th percentile
and the longest time from one frame to the next (16.7 ms is sixty a second).
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from candletune.console import SilentReporter
from candletune.stages.report import STAGE
from simulated_run import make_run

MOVE = """async (what) => {
    const chart = document.getElementById("calls-chart");
    chart.scrollIntoView({ block: "center" });
    chart.focus();
    const press = (key) => chart.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
    press("0");
    if (what === "pan") { press("+"); press("+"); }
    const times = [];
    let last = await new Promise(requestAnimationFrame);
    for (let step = 0; step < 90; step++) {
        if (what === "scroll") scrollBy(0, step < 45 ? 60 : -60);
        if (what === "pan") press(step < 45 ? "PageUp" : "PageDown");
        if (what === "zoom") press(step < 45 ? "+" : "-");
        const now = await new Promise(requestAnimationFrame);
        times.push(now - last);
        last = now;
    }
    return times;
}"""


def main(rows: int) -> None:
    """Make the report, open it, move, print."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        years = max(1.2, rows / (2 * 8760) + 0.9)
        config, run = make_run(Path(folder), f"simulate.years={years:.1f}", "evaluate.baselines=false", rows=rows)
        STAGE.work(config, run, SilentReporter())
        measure(playwright, run.report, f"{rows:,} decisions")


def measure(playwright: Any, report: Path, title: str) -> None:
    """Open a report and print what was measured."""
    browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    start = time.perf_counter()
    page.goto(report.as_uri(), wait_until="commit")
    page.wait_for_selector("h1")
    first = time.perf_counter() - start
    page.wait_for_load_state("load")
    loaded = time.perf_counter() - start
    page.locator("#calls-chart").scroll_into_view_if_needed()
    page.wait_for_selector("#calls-chart[data-ready]")
    ready = time.perf_counter() - start
    size = report.stat().st_size / 1e6
    print(f"{title}: {size:.2f} MB; h1 {first:.2f} s, interactive {loaded:.2f} s, chart of calls {ready:.2f} s")
    for what in ("pan", "zoom", "scroll"):
        times = sorted(page.evaluate(MOVE, what))
        late = times[int(0.95 * len(times))]
        print(f"{what:<7} median {statistics.median(times):.1f} ms, 95 % {late:.1f} ms, longest {times[-1]:.1f} ms")
    browser.close()


if __name__ == "__main__":
    if len(sys.argv) > 1 and Path(sys.argv[1]).is_file():
        from playwright.sync_api import sync_playwright

        with sync_playwright() as made:
            measure(made, Path(sys.argv[1]), sys.argv[1])
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 50_000)
