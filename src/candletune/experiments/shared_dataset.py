"""A dataset that another trial built with the same settings is copied: twelve trainings on one build it once."""

from collections.abc import Iterator

from filelock import FileLock

from candletune.config import Config
from candletune.console import Reporter
from candletune.files import atomic_folder, copy
from candletune.hashes import fingerprint
from candletune.runs import RunFolder
from candletune.stages import stage
from candletune.stages.runner import is_current, run_stage, settings_of

NAME = "dataset"


def ready_dataset(config: Config, run: RunFolder, reporter: Reporter) -> None:
    """The dataset stage, or a copy of what it wrote in a run folder beside this one.

    Trials that want the same dataset at the same time wait for the one that builds it.

    Args:
        config: the run's.
        run: where the dataset is to be; the caller holds its lock.
        reporter: where to report to.
    """
    definition = stage(NAME)
    wanted = settings_of(config, definition.tables)
    if not is_current(definition, config, run):
        with FileLock(run.path.with_name(f".dataset-{fingerprint(wanted)[:8]}.lock")):
            for other in _beside(run):
                entry = other.entry(NAME)
                if entry is None or dict(entry.settings) != wanted or not is_current(definition, config, other):
                    continue
                with atomic_folder(run.dataset) as folder:
                    for path in other.dataset.iterdir():
                        copy(path, folder / path.name)
                run.manifest().with_stage(NAME, entry).write(run.manifest_file)
                break
            run_stage(definition, config, run, reporter)
        return
    run_stage(definition, config, run, reporter)


def _beside(run: RunFolder) -> Iterator[RunFolder]:
    """Run folders of the other trials."""
    for path in sorted(run.path.parent.iterdir()):
        if path.is_dir() and path != run.path:
            yield RunFolder(path)
