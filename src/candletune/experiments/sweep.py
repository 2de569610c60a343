"""A sweep: every trial is scored on the eval split, and one winner is named before the replay range is looked at."""

from pathlib import Path

from candletune.artifacts.sweep import Sweep, Trial
from candletune.config import Config
from candletune.console import Reporter
from candletune.experiments.pruning import Curve
from candletune.experiments.search import search_of
from candletune.experiments.shared_base import with_shared_base
from candletune.experiments.space import Settings, check_space, grid, planned, shown, trial_config, trial_name
from candletune.experiments.trial import Before, run_trial, trial_curve
from candletune.experiments.winner import name_winner
from candletune.runs import RunFolder


def run_sweep(config: Config, run: RunFolder, reporter: Reporter, *, folder: Path) -> Sweep:
    """Try every combination, or what is left of them, and name the winner; the caller holds the run folder's lock.

    Args:
        config: with the `[sweep]` table and candles that are there.
        run: the run folder, below which the sweep's lies.
        reporter: where to report to.
        folder: of the configuration file: paths among the settings are relative to it.

    Raises:
        UsageError: the table is wrong.
        InputError: no trial finished.
    """
    check_space(config)
    home = RunFolder(run.sweep)
    for settings in grid(config) if config.sweep.method == "grid" else ():
        trial_config(config, settings, home.path, folder)  # a wrong value is refused before hours are spent
    before = Sweep.read_if_there(home.sweep_trials)
    shared = with_shared_base(config, home, reporter)
    found = Sweep(method=config.sweep.method, model=config.sweep.model, planned=planned(config))
    curves: dict[str, list[Curve]] = {}

    def attempt(number: int, settings: Settings) -> Trial:
        name = trial_name(settings)
        if (same := found.trial(name)) is not None:
            return same  # a search may propose what it proposed before
        ready = trial_config(shared, settings, home.file(name), folder)
        known = None if before is None else before.trial(name)
        trial = run_trial(
            Trial(name=name, settings=settings, state="failed"),
            ready,
            reporter,
            before=Before([entry.name for entry in found.trials], curves),
            known=known,
        )
        curve = trial_curve(ready)
        if curve and trial.state != "failed":
            curves.setdefault(trial.rows_sha256, []).append(curve)
        reporter.say(f"trial {number + 1} of {found.planned}: {describe(trial)}")
        return trial

    for trial in search_of(config)(config, attempt):
        if found.trial(trial.name) is None:
            found = found.model_copy(update={"trials": (*found.trials, trial)})
            _with_known(found, before).write(home.sweep_trials)
    return name_winner(found, before, shared, home, folder)


def _with_known(found: Sweep, before: Sweep | None) -> Sweep:
    """Behind the trials that were done, those that an earlier sweep did and this one has not come to yet."""
    later = [] if before is None else [trial for trial in before.trials if found.trial(trial.name) is None]
    return found.model_copy(update={"trials": (*found.trials, *later)})


def describe(trial: Trial) -> str:
    """A trial in a line."""
    text = shown(trial.settings)
    if trial.state == "failed":
        return f"{text}: FAILED: {trial.reason}"
    if trial.state == "pruned":
        return f"{text}: pruned at step {trial.step}, above the median of the trials before it"
    return f"{text}: log loss {trial.log_loss:.4f} on {trial.rows} eval rows, the base rates {trial.base_log_loss:.4f}"
