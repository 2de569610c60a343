"""The `report` stage: one self-contained HTML page that tells the whole story."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from candletune.config import Config
from candletune.console import Reporter
from candletune.evaluation.review.reviews import REVIEWS
from candletune.report.page import render
from candletune.report.story import tell
from candletune.runs import RunFolder, Stage, write_text

REPORT = "report/index.html"
_EVALUATION = {
    "metrics": ("evaluation", "metrics.json"),
    "verdict": ("evaluation", "verdict.json"),
    "scored": ("evaluation", "scored.parquet"),
}
_OPTIONAL = {
    "journal": ("replay", "ab_test_log.jsonl"),
    "dataset": ("dataset", "manifest.json"),
    "training": ("train", "metrics.jsonl"),
    "verification": ("verify", "verify.json"),
    "reviews": REVIEWS,
    "attainable": ("attainable.json",),
}


def _inputs(config: Config, run: RunFolder) -> Mapping[str, Path]:
    required = {name: run.file(*parts) for name, parts in _EVALUATION.items()}
    optional = {name: run.file(*parts) for name, parts in _OPTIONAL.items()}
    return required | {name: path for name, path in optional.items() if path.exists()}


def _work(config: Config, run: RunFolder, reporter: Reporter) -> dict[str, Any]:
    story = tell(config, run)
    target = run.file(REPORT)
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
    outputs=(REPORT,),
    work=_work,
)
