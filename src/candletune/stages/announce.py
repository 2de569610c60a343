"""Telling people how a stage ended: a training, a verdict, or a failure."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from candletune.artifacts import EvaluateSummary, StageSummary, VerifySummary
from candletune.config import Config
from candletune.console import Reporter
from candletune.notify import Event, Notifier
from candletune.runs import RunFolder


@contextmanager
def announced(
    stage: str, config: Config, run: RunFolder, reporter: Reporter
) -> Iterator[Callable[[StageSummary], None]]:
    """Announce a failure inside the block, and the summary that is handed to what it yields; see `notify.events`.

    An interruption by the user is no failure.
    """
    with Notifier(config.notify, reporter.warn) as notifier:

        def ended(summary: StageSummary) -> None:
            headline = summary.headline or "done"
            where = f"run folder: {run.path}"
            if stage == "train":
                notifier.tell(Event.TRAINING, "training ended", f"{headline}\n{where}")
            elif isinstance(summary, EvaluateSummary):
                title = f"verdict: {summary.verdict}"
                notifier.tell(Event.VERDICT, title, f"{summary.reason}\n{where}")
            elif isinstance(summary, VerifySummary) and not summary.passed:
                notifier.tell(Event.FAILURE, "verification failed", f"{headline}\n{where}")

        try:
            yield ended
        except Exception as error:
            text = " ".join(str(error).split())
            notifier.tell(Event.FAILURE, f"{stage} failed", f"{type(error).__name__}: {text}\nrun folder: {run.path}")
            raise
