"""Telling people how a stage ended: a training, a verdict, or a failure."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from candletune.config import Config
from candletune.console import Reporter
from candletune.notify import Event, Notifier
from candletune.runs import RunFolder


@contextmanager
def announced(
    stage: str, config: Config, run: RunFolder, reporter: Reporter
) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Announce a failure inside the block, and the summary that is handed to what it yields; see `notify.events`.

    An interruption by the user is no failure.
    """
    with Notifier(config.notify, reporter.warn) as notifier:

        def ended(summary: Mapping[str, Any]) -> None:
            headline = str(summary.get("headline", "done"))
            where = f"run folder: {run.path}"
            if stage == "train":
                notifier.tell(Event.TRAINING, "training ended", f"{headline}\n{where}")
            elif stage == "evaluate":
                title = f"verdict: {summary.get('verdict')}"
                notifier.tell(Event.VERDICT, title, f"{summary.get('reason', headline)}\n{where}")
            elif stage == "verify" and not summary.get("passed", True):
                notifier.tell(Event.FAILURE, "verification failed", f"{headline}\n{where}")

        try:
            yield ended
        except Exception as error:
            text = " ".join(str(error).split())
            notifier.tell(Event.FAILURE, f"{stage} failed", f"{type(error).__name__}: {text}\nrun folder: {run.path}")
            raise
