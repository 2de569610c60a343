"""Which combination is tried next: a grid's own order, or as Optuna proposes them."""

from typing import Any, Final, Protocol

from pydantic import JsonValue

from candletune.artifacts.sweep import Trial
from candletune.config import Config
from candletune.config_sweep import Range
from candletune.errors import InputError
from candletune.experiments.space import Settings, as_json, grid, planned

RANDOM: Final = 10
"""Scores that Optuna's TPE sampler waits for before it looks at any (its default); until then it draws at random."""


class Search(Protocol):
    """Proposes combinations."""

    def ask(self) -> Settings | None:
        """The next one; None where there is none, or it depends on scores that have not been told yet."""

    def tell(self, trial: Trial) -> None:
        """What a combination came to, in the order in which they were asked for."""


def search_of(config: Config) -> Search:
    """The configured one."""
    return Grid(config) if config.sweep.method == "grid" else Tpe(config)


class Grid:
    """Every combination; none depends on another."""

    def __init__(self, config: Config) -> None:
        self._left = iter(grid(config))

    def ask(self) -> Settings | None:
        """See `Search`."""
        return next(self._left, None)

    def tell(self, trial: Trial) -> None:
        """See `Search`."""


class Tpe:
    """What Optuna's TPE sampler proposes, with the configuration's seed: the same scores give the same proposals, so a
    sweep that was cut off goes on where it was.

    The first ones are drawn at random, whatever the scores; each later one needs the scores of all before it. So it
    proposes the same, however many trials are under way at a time.

    Raises:
        InputError: Optuna is not installed.
    """

    def __init__(self, config: Config) -> None:
        try:
            import optuna
        except ImportError:
            raise InputError(
                "sweep.method=optuna: Optuna is not installed; pip install 'candletune[sweep]', or set it to grid"
            ) from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.TPESampler(seed=config.seed, n_startup_trials=RANDOM)
        self._states = optuna.trial.TrialState
        self._study = optuna.create_study(direction="minimize", sampler=sampler)
        self._config = config
        self._open: list[Any] = []
        self._left, self._scored = planned(config), 0

    def ask(self) -> Settings | None:
        """See `Search`."""
        if not self._left or (self._open and self._scored + len(self._open) >= RANDOM):
            return None
        self._left -= 1
        self._open.append(self._study.ask())
        return _proposed(self._open[-1], self._config)

    def tell(self, trial: Trial) -> None:
        """See `Search`."""
        proposed = self._open.pop(0)
        if trial.score is not None:
            self._study.tell(proposed, trial.score)
        elif trial.state == "pruned":
            self._study.tell(proposed, state=self._states.PRUNED)
        else:
            self._study.tell(proposed, state=self._states.FAIL)
        self._scored += trial.state != "failed"


def _proposed(proposed: Any, config: Config) -> dict[str, JsonValue]:
    """The settings that Optuna draws; lists are drawn by their place, since it takes only plain values."""
    found: dict[str, JsonValue] = {}
    for key, choices in config.sweep.settings.items():
        if not isinstance(choices, Range):
            found[key] = as_json(choices[proposed.suggest_categorical(key, list(range(len(choices))))])
        elif isinstance(choices.low, int) and isinstance(choices.high, int):
            found[key] = proposed.suggest_int(key, choices.low, choices.high, log=choices.log)
        else:
            found[key] = proposed.suggest_float(key, choices.low, choices.high, log=choices.log)
    return found
