"""How a run was made, from its manifest."""

from typing import Any

from candletune import __version__
from candletune.journal import parse_time
from candletune.report.text import moment
from candletune.runs import RunFolder


def provenance(run: RunFolder) -> dict[str, Any]:
    """Stages, hashes, settings and versions of everything in the run, by the names the page uses."""
    stages = run.manifest().stages
    versions: dict[str, str] = {}
    hashes: dict[str, str] = {}
    for entry in stages.values():
        versions |= entry.versions
        hashes |= {**entry.inputs, **entry.outputs}
    return {
        "version": __version__,
        "stages": [
            {
                "name": name,
                "headline": entry.headline,
                "seconds": entry.seconds,
                "finished": moment(entry.finished),
            }
            for name, entry in stages.items()
        ],
        "versions": dict(sorted(versions.items())),
        "hashes": dict(sorted(hashes.items())),
        "settings": {name: entry.settings for name, entry in stages.items()},
        "written": moment(max((parse_time(entry.finished) for entry in stages.values()), default=None)),
    }
