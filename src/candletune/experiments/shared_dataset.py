"""A dataset that another trial built with the same settings is copied: twelve trainings on one build it once."""

from collections.abc import Iterable

from candletune.config import Config
from candletune.console import Reporter
from candletune.files import atomic_folder, copy
from candletune.runs import RunFolder
from candletune.stages import stage
from candletune.stages.runner import is_current, run_stage, settings_of

NAME = "dataset"


def ready_dataset(config: Config, run: RunFolder, others: Iterable[RunFolder], reporter: Reporter) -> None:
    """The dataset stage, or a copy of what it wrote in another run folder; the caller holds the run folder's lock.

    Args:
        config: the run's.
        run: where the dataset is to be.
        others: run folders of earlier trials.
        reporter: where to report to.
    """
    definition = stage(NAME)
    if not is_current(definition, config, run):
        wanted = settings_of(config, definition.tables)
        for other in others:
            entry = other.entry(NAME)
            if entry is None or dict(entry.settings) != wanted or not is_current(definition, config, other):
                continue
            with atomic_folder(run.dataset) as folder:
                for path in other.dataset.iterdir():
                    copy(path, folder / path.name)
            run.manifest().with_stage(NAME, entry).write(run.manifest_file)
            break
    run_stage(definition, config, run, reporter)
