"""What moves on a run's page: its stages, and what `metrics.jsonl` holds so far, as drawings."""

from dataclasses import dataclass

from markupsafe import Markup

from candletune.artifacts import LoggedStep
from candletune.experiments.logged import logged_steps
from candletune.report.curves import Curve, curves
from candletune.report.page import render
from candletune.runs import RunFolder
from candletune.stages import STAGES
from candletune.stages.progress import read_progress


@dataclass(frozen=True, slots=True)
class StageView:
    """A stage's row: `state` is `done`, `running`, `stopped` or `open`."""

    name: str
    state: str
    finished: str = ""
    seconds: float | None = None
    said: str = ""


def stage_views(run: RunFolder) -> list[StageView]:
    """Every stage of the pipeline, in its order.

    Raises:
        InputError: the run's manifest is broken.
    """
    finished = run.manifest().stages
    progress = read_progress(run)
    views = []
    for name in STAGES:
        entry = finished.get(name)
        if progress is not None and progress.stage == name:
            views.append(StageView(name, "running" if progress.alive else "stopped", said=progress.describe()))
        elif entry is not None:
            views.append(StageView(name, "done", entry.finished, entry.seconds, entry.headline))
        else:
            views.append(StageView(name, "open"))
    return views


def run_body(run: RunFolder) -> str:
    """The part of the page, as HTML.

    Raises:
        InputError: manifest or log is broken.
    """
    return render("run_body.html.j2", stages=stage_views(run), drawings=training_drawings(run))


def training_drawings(run: RunFolder) -> list[tuple[str, Markup, list[str]]]:
    """Heading, drawing and the names of its lines, of everything that was logged; none before the first step.

    Raises:
        InputError: a line of the log is broken.
    """
    steps = logged_steps(run.train_metrics)
    held = {"accuracy": "eval_accuracy", "balanced accuracy": "eval_balanced_accuracy"}
    wanted = (
        ("Training loss", "loss", {"training loss": "loss"}),
        ("Log loss on the eval rows", "eval-loss", {"log loss": "eval_log_loss"}),
        ("Decisions right on the eval rows", "held-out", held),
    )
    drawings = []
    for heading, name, keys in wanted:
        lines = [Curve(place, line, _points(steps, key)) for place, (line, key) in enumerate(keys.items())]
        label = f"{heading} by optimizer step"
        drawing = curves(lines, name=name, label=label, across="step", share=name == "held-out")
        if drawing:
            drawings.append((heading, drawing, list(keys)))
    return drawings


def _points(steps: list[LoggedStep], key: str) -> list[tuple[float, float]]:
    values = [(step.step, getattr(step, key)) for step in steps]
    return [(float(step), value) for step, value in values if step is not None and value is not None]
