"""Gathers a run's files into what the page shows. A section whose file is missing is left out, never faked."""

from typing import Any

from candletune import __version__
from candletune.config import Config
from candletune.report.text import moment
from candletune.report.verdict import verdict_view
from candletune.runs import RunFolder, read_json


def tell(config: Config, run: RunFolder) -> dict[str, Any]:
    """Everything `report.html.j2` needs.

    Raises:
        InputError: the evaluation has not run, or a file is broken.
    """
    verdict = verdict_view(read_json(run.file("evaluation", "verdict.json")))
    metrics = read_json(run.file("evaluation", "metrics.json"))
    manifest = run.manifest()
    return {
        "title": f"{verdict['sentence']} candletune report",
        "run": run.path.name,
        "verdict": verdict,
        "metrics": metrics,
        "stages": [
            {
                "name": name,
                "headline": entry["summary"].get("headline", ""),
                "seconds": entry["seconds"],
                "finished": moment(entry["finished"]),
                "fingerprint": entry["fingerprint"],
                "versions": entry["versions"],
            }
            for name, entry in manifest["stages"].items()
        ],
        "version": __version__,
    }
