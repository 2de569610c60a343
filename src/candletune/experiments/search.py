"""In which order combinations are tried: a grid's own, or as Optuna proposes them."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from pydantic import JsonValue

from candletune.artifacts.sweep import Trial
from candletune.config import Config
from candletune.config_sweep import Range
from candletune.errors import InputError
from candletune.experiments.space import Settings, as_json, grid, planned

Try = Callable[[int, Settings], Trial]
"""Number and settings of a trial -> what it came to."""


class Search(Protocol):
    """Tries combinations, one after the other."""

    def __call__(self, config: Config, attempt: Try) -> Iterator[Trial]:
        """Each trial's record, as soon as it is there."""


def search_of(config: Config) -> Search:
    """The configured one."""
    return over_grid if config.sweep.method == "grid" else by_optuna


def over_grid(config: Config, attempt: Try) -> Iterator[Trial]:
    """Every combination."""
    for number, settings in enumerate(grid(config)):
        yield attempt(number, settings)


def by_optuna(config: Config, attempt: Try) -> Iterator[Trial]:
    """What Optuna's TPE sampler proposes, with the configuration's seed: the same scores give the same proposals, so a
    sweep that was cut off goes on where it was.

    Raises:
        InputError: Optuna is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise InputError(
            "sweep.method=optuna: Optuna is not installed; pip install 'candletune[sweep]', or set it to grid"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=config.seed)
    study = optuna.create_study(direction="minimize", sampler=sampler)
    for number in range(planned(config)):
        proposed = study.ask()
        trial = attempt(number, _proposed(proposed, config))
        if trial.score is not None:
            study.tell(proposed, trial.score)
        else:
            pruned = trial.state == "pruned"
            study.tell(proposed, state=optuna.trial.TrialState.PRUNED if pruned else optuna.trial.TrialState.FAIL)
        yield trial


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
