"""The `report` stage: one self-contained HTML page that tells the whole story."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from candletune.config import Config
from candletune.console import Reporter
from candletune.files import write_text
from candletune.report.page import render
from candletune.report.story import tell
from candletune.runs import RunFolder
from candletune.stages.runner import Stage


def _inputs(config: Config, run: RunFolder) -> Mapping[str, Path]:
    required = {"metrics": run.metrics, "verdict": run.verdict, "scored": run.scored}
    optional = {
        "journal": run.journal,
        "dataset": run.dataset_manifest,
        "training": run.train_metrics,
        "verification": run.certificate,
        "reviews": run.reviews,
        "attainable": run.attainable,
    }
    return required | {name: path for name, path in optional.items() if path.exists()}


def _work(config: Config, run: RunFolder, reporter: Reporter) -> dict[str, Any]:
    story = tell(config, run)
    target = run.report
    write_text(target, render("report.html.j2", **story))
    size = target.stat().st_size
    return {
        "headline": f"{target} ({size / 1e6:.1f} MB): {story['verdict']['sentence']}",
        "path": str(target),
        "bytes": size,
    }


STAGE = Stage(
    name="report",
    title="Writing the report",
    tables=("data", "labels", "dataset", "evaluate", "replay", "prompt", "simulate", "review"),
    inputs=_inputs,
    outputs=("report/index.html",),
    work=_work,
)
