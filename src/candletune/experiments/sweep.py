"""A sweep: every trial is scored on the eval split, and one winner is named before the replay range is looked at."""

from pathlib import Path

from candletune.artifacts.sweep import Sweep, Trial
from candletune.config import Config
from candletune.console import Reporter
from candletune.experiments.search import search_of
from candletune.experiments.shared_base import with_shared_base
from candletune.experiments.space import Settings, check_space, grid, planned, shown, trial_config, trial_name
from candletune.experiments.trial import Job, trial_curve
from candletune.experiments.trial_record import pruned
from candletune.experiments.winner import name_winner
from candletune.experiments.workers import Workers, working
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
    with working(config, home, reporter) as workers:
        course = Course(shared, home, folder, before, workers)
        found = course.run(reporter)
    return name_winner(found, before, shared, home, folder)


class Course:
    """A sweep under way.

    Trials may end in any order. What they came to is said, pruned and told to the search in the order in which they
    were asked for, so that the same sweep ends the same, whoever works on it.
    """

    def __init__(self, config: Config, home: RunFolder, folder: Path, before: Sweep | None, workers: Workers) -> None:
        self._config, self._home, self._folder, self._before, self._workers = config, home, folder, before, workers
        self._search = search_of(config)
        self._found = Sweep(method=config.sweep.method, model=config.sweep.model, planned=planned(config))
        self._asked: list[str] = []  # names, in order; a search may propose what it proposed before
        self._jobs: dict[str, Job] = {}
        self._ended: dict[str, Trial] = {}
        self._judged = 0

    def run(self, reporter: Reporter) -> Sweep:
        """To its end; what is known is on disk after each trial."""
        while True:
            while self._workers.free and (settings := self._search.ask()) is not None:
                self._begin(settings)
            if self._judge(reporter):
                continue  # the search may go on
            if not self._workers.busy:
                return self._found
            for place, trial in self._workers.ended():
                job = self._jobs[trial.name]
                self._workers.board.ended(place, trial, trial_curve(job.config))
                self._ended[trial.name] = trial
            self._write()

    def _begin(self, settings: Settings) -> None:
        name = trial_name(settings)
        self._asked.append(name)
        if name in self._jobs:
            return
        job = Job(
            place=len(self._jobs),
            trial=Trial(name=name, settings=settings, state="failed"),
            config=trial_config(self._config, settings, self._home.file(name), self._folder),
            known=None if self._before is None else self._before.trial(name),
            board=self._workers.board,
        )
        self._jobs[name] = job
        self._workers.begin(job)

    def _judge(self, reporter: Reporter) -> bool:
        """Trials that ended, and all before them; whether there was one."""
        first = self._judged
        while self._judged < len(self._asked):
            name = self._asked[self._judged]
            trial = self._found.trial(name)
            if trial is None:
                if name not in self._ended:
                    break
                trial = self._standing(self._ended.pop(name), self._jobs[name])
                self._found = self._found.model_copy(update={"trials": (*self._found.trials, trial)})
                reporter.say(f"trial {self._judged + 1} of {self._found.planned}: {describe(trial)}")
            self._search.tell(trial)
            self._judged += 1
        if self._judged > first:
            self._write()
        return self._judged > first

    def _standing(self, trial: Trial, job: Job) -> Trial:
        """Evaluated for the last time, or trained by an earlier sweep: the rule is the same."""
        if trial.state != "finished" or not self._config.sweep.prune:
            return trial
        step = self._workers.board.hopeless(job.place)
        return trial if step is None else pruned(trial, step, RunFolder(job.config.run.folder))

    def _write(self) -> None:
        """The trials in order; behind them those that ended too early to be judged, and those that an earlier sweep did
        and this one has not come to yet."""
        known = {trial.name: trial for trial in (() if self._before is None else self._before.trials)} | self._ended
        later = [trial for name, trial in known.items() if self._found.trial(name) is None]
        self._found.model_copy(update={"trials": (*self._found.trials, *later)}).write(self._home.sweep_trials)


def describe(trial: Trial) -> str:
    """A trial in a line."""
    text = shown(trial.settings)
    if trial.state == "failed":
        return f"{text}: FAILED: {trial.reason}"
    if trial.state == "pruned":
        return f"{text}: pruned at step {trial.step}, above the median of the trials before it"
    return f"{text}: log loss {trial.log_loss:.4f} on {trial.rows} eval rows, the base rates {trial.base_log_loss:.4f}"
