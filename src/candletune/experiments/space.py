"""From a `[sweep]` table to combinations of settings, and from each to a whole configuration."""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, Final

from pydantic import JsonValue, ValidationError

from candletune.config import Config
from candletune.config_file import commented_toml
from candletune.config_source import SECRETS, leaves, placed, value_of
from candletune.config_sweep import Range
from candletune.errors import UsageError
from candletune.hashes import fingerprint

Settings = Mapping[str, JsonValue]
"""Key in full -> value."""
SWEPT: Final = {
    "llm": re.compile(
        r"train\.|prompt\.template$|base\.(model|gguf|serve_type|revision|chat)$|dataset\.(per_class|timeframes|train_start)$|"
        r"data\.(fear_greed|fear_greed_delay|headlines|headline_hours|headline_count|context_timeframes)$"
    ),
    "boosting": re.compile(
        r"boosting\.|dataset\.(per_class|timeframes|train_start)$|train\.(call_share|uniqueness)$|"
        r"data\.(fear_greed|fear_greed_delay|headlines|headline_hours)$"
    ),
}
"""Keys that a sweep may vary: those that leave the question, and the rows on which it is asked, as they are."""
_LONGEST: Final = 64
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9.+-]+")


def check_space(config: Config) -> None:
    """Refuse a table that names no setting, or one that a sweep cannot choose.

    Raises:
        UsageError: says which key, and why.
    """
    sweep = config.sweep
    if not sweep.settings:
        raise UsageError('sweep: names no setting; write some into the table, such as "train.lora_rank" = [8, 16]')
    known = [key for key, _ in leaves(Config)]
    for key, choices in sweep.settings.items():
        if key not in known:
            close = get_close_matches(key, known, n=1)
            raise UsageError(f"sweep.settings: {key}: unknown key{f' (did you mean {close[0]}?)' if close else ''}")
        if not SWEPT[sweep.model].match(key):
            raise UsageError(
                f"sweep.settings: {key} cannot be swept: it leaves the trials as they "
                "are, or changes what is asked on the eval rows, so that log losses would say nothing of each other"
            )
        if isinstance(choices, Range) and sweep.method == "grid":
            raise UsageError(
                f"sweep.settings: {key} is a range, which has no grid; list values, or set method = optuna"
            )


def planned(config: Config) -> int:
    """Trials in all."""
    sweep = config.sweep
    if sweep.method == "optuna":
        return sweep.trials or 20
    whole = prod(len(choices) for choices in sweep.settings.values() if not isinstance(choices, Range))
    return min(whole, sweep.trials or whole)


def grid(config: Config) -> list[dict[str, JsonValue]]:
    """Every combination, the last key's values first; at most `sweep.trials`."""
    values = [[as_json(value) for value in choices] for choices in config.sweep.settings.values()]
    return [dict(zip(config.sweep.settings, row, strict=True)) for row in product(*values)][: planned(config)]


def as_json(value: Any) -> JsonValue:
    """A choice as JSON has it."""
    return list(value) if isinstance(value, tuple) else value


def trial_config(config: Config, settings: Settings, run_folder: Path, file_folder: Path) -> Config:
    """The whole configuration of a trial.

    Args:
        config: the sweep's.
        settings: of the trial.
        run_folder: the trial's.
        file_folder: paths in `settings` are relative to it.

    Raises:
        UsageError: a value is wrong; names its key.
    """
    values: Any = config.model_dump()
    for key, value in settings.items():
        *tables, last = key.split(".")
        table = values
        for part in tables:
            table = table[part]
        table[last] = placed(Config, key, value, file_folder)
    values["run"]["folder"] = run_folder
    values["notify"]["events"] = ()  # people are told of the sweep's end, not of each training
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"sweep: {shown(settings)}: {f'{key}: ' if key else ''}{message}") from None


def shown(settings: Settings) -> str:
    """The settings in a line."""
    return ", ".join(f"{key} = {_text(value)}" for key, value in settings.items())


def _text(value: JsonValue) -> str:
    if isinstance(value, list):
        return "+".join(map(_text, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def trial_name(settings: Settings) -> str:
    """A folder's name from the settings, so that a trial keeps it however the table changes."""
    parts = [f"{key.rpartition('.')[2]}-{_text(value)}" for key, value in settings.items()]
    name = _UNSAFE.sub("_", ",".join(parts)).strip("_.")
    if len(name) <= _LONGEST and all(map(_exact, settings.values())):
        return name
    return f"{name[: _LONGEST - 9].rstrip('_.')}-{fingerprint(dict(settings))[:8]}"


def _exact(value: JsonValue) -> bool:
    """Whether its text says all of it."""
    return isinstance(value, int) or (isinstance(value, float) and float(f"{value:g}") == value)


def trial_toml(config: Config) -> str:
    """A trial's configuration as a file; what is at its default stays so, and secrets are left out."""
    plain = Config()
    values = {
        key: value_of(config, key)
        for key, _ in leaves(Config)
        if not key.startswith(("sweep.", SECRETS)) and value_of(config, key) != value_of(plain, key)
    }
    return commented_toml(values)
