"""The `report` stage: one self-contained HTML page that tells the whole story.

With `evaluate.journal` the page is about that journal's evaluation, beside the replay's page.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from candletune.artifacts import ReportSummary
from candletune.config import Config
from candletune.console import Reporter
from candletune.evaluation.source import evaluation_files
from candletune.files import write_text
from candletune.report.content import report_content
from candletune.report.page import render
from candletune.runs import RunFolder
from candletune.stages.runner import Stage


def _inputs(config: Config, run: RunFolder) -> Mapping[str, Path]:
    files = evaluation_files(config, run)
    required = {"metrics": files.metrics, "verdict": files.verdict, "scored": files.scored}
    optional = {
        "journal": files.journal,
        "dataset": run.dataset_manifest,
        "training": run.train_metrics,
        "verification": run.certificate,
        "reviews": run.reviews,
        "attainable": run.attainable,
    }
    return required | {name: path for name, path in optional.items() if path.exists()}


def _work(config: Config, run: RunFolder, reporter: Reporter) -> ReportSummary:
    content = report_content(config, run)
    target = evaluation_files(config, run).report
    write_text(target, render("report.html.j2", **vars(content)))
    size = target.stat().st_size
    headline = f"{target} ({size / 1e6:.1f} MB): {content.verdict.sentence}"
    return ReportSummary(headline=headline, path=str(target), bytes=size)


def _variant(config: Config) -> Stage:
    return STAGE if config.evaluate.journal is None else SHADOW


STAGE = Stage(
    name="report",
    title="Writing the report",
    tables=("data", "labels", "dataset", "evaluate", "replay", "prompt", "simulate", "review"),
    inputs=_inputs,
    outputs=("report/index.html",),
    work=_work,
    summary=ReportSummary,
    variant=_variant,
)
SHADOW = replace(STAGE, name="report --journal", outputs=("report/shadow.html",))
