"""The training engines, a file each. Adding one is adding a file here with an `ENGINE` (see `training/engine.py`).

`train.backend` takes the file's name; the shared engine tests find the file by themselves.
"""

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from candletune.config import TrainConfig
from candletune.errors import UsageError
from candletune.training.adapter import load_with_adapter, trained_device
from candletune.training.engine import EngineKind, EngineSetup, TrainingEngine
from candletune.training.fast.seats import taken_seat


def engine_names() -> list[str]:
    """Every engine's name, sorted."""
    return sorted(module.name for module in iter_modules(__path__))


def engine_kind(name: str) -> EngineKind:
    """The engine of a name.

    Raises:
        UsageError: there is none.
    """
    if name not in engine_names():
        raise UsageError(f"train.backend: there is no engine {name!r}; choose auto, {', '.join(engine_names())}")
    kind: EngineKind = import_module(f"{__name__}.{name}").ENGINE
    return kind


def load_model(path: Path, config: TrainConfig, device: str, seed: int) -> Any:
    """The base with a fresh adapter, as the configured engine wants it.

    Raises:
        UsageError: no such engine, or a setting it does not have.
        InputError: the base cannot be loaded.
    """
    load = load_with_adapter if config.backend == "auto" else engine_kind(config.backend).load
    return load(path, config, device, seed)


def open_engine(model: Any, setup: EngineSetup) -> TrainingEngine:
    """The configured engine over a model; with `auto` the most preferred one that can run it.

    Args:
        model: from `load_model`.
        setup: settings, examples, and where notes go.

    Raises:
        UsageError: the engine that is asked for cannot run this model.
        InputError: the memory is too small.
    """
    name = setup.config.backend
    if taken_seat() is not None:
        if name not in ("auto", "fast"):
            raise UsageError(f"train.backend: the {name} engine works in one process; set it to fast, or train.gpus=1")
        name = "fast"
    if name != "auto":
        kind = engine_kind(name)
        if reason := kind.refusal(model, setup):
            raise UsageError(f"train.backend: the {name} engine cannot run this model ({reason}); set it to reference")
        return kind.open(model, setup)
    notes: list[str] = []
    for name, kind in _automatic(trained_device(model).type):
        reason = kind.refusal(model, setup)
        if reason is None:
            for note in notes:
                setup.say(f"{note}; using the {name} engine")
            return kind.open(model, setup)
        notes.append(f"the {name} engine cannot run this model ({reason})")
    raise UsageError(f"train.backend: no engine runs this model ({'; '.join(notes)})")


def _automatic(device: str) -> list[tuple[str, EngineKind]]:
    """Engines that `auto` may choose on a type of device, most preferred first."""
    kinds = [(name, engine_kind(name)) for name in engine_names()]
    return sorted(((n, kind) for n, kind in kinds if device in kind.automatic), key=lambda pair: -pair[1].preference)
