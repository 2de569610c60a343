"""`_lora_override`: which model a request asks for this once.

Over HTTP by name only: a path would let a client open any file of the machine, and a refusal would tell which exist.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from candletune.config import Config
from candletune.decide import BARE_BASE, Model, Predictor, bare_base, model_at
from candletune.errors import InputError
from candletune.fields.keys import shown
from candletune.gguf.catalogue import versioned_name
from candletune.gguf.header import read_header
from candletune.live.models import candidate_model, named_model
from candletune.runs import RunFolder

OVERRIDE = "_lora_override"
MAX_OVERRIDES = 4
"""Models that requests may bring into memory beside the active one and the candidate."""
MAX_NAME = 200
"""Characters of a name."""
MAX_FOLDER = 1_000
"""Files of `live.adapters` that are looked at."""


class Overrides:
    """Finds what a request names, and counts what it brings into memory."""

    def __init__(self, config: Config, predictor: Predictor) -> None:
        """`predictor` holds what is in memory."""
        self._config, self._predictor = config, predictor
        self._brought: set[str | None] = set()

    def find(self, value: Any, active: Model, *, names_only: bool) -> Model | None:
        """The model: `active`, `candidate`, `base`, a name, or the path of an adapter; None where none is asked for.

        A name is that of an export of the run, of a model that was promoted, or of a file in `live.adapters`; with or
        without `.gguf`, or versioned.

        Args:
            value: what the context says.
            active: the model that acts.
            names_only: no paths.

        Raises:
            InputError: there is none of that name, it can't be loaded, or too many were brought in.
        """
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            kinds = "a name" if names_only else "a path or a name"
            raise InputError(f"context.{OVERRIDE}: expected {kinds}, got {shown(value)}")
        if value in (active.name, "active"):
            return active
        if value in ("base", BARE_BASE):
            return bare_base()
        if value == "candidate":
            return candidate_model(RunFolder(self._config.run.folder))
        return self._brought_in(self._named(value) or self._at(value, active, names_only=names_only))

    def _named(self, value: str) -> Model | None:
        """A model by its name. What the client sent is compared with names, and never made a path."""
        if len(value) > MAX_NAME:
            return None
        name = value.removesuffix(".gguf")
        found = named_model(self._config, name)
        if found is not None:
            return found
        for path in self._folder():
            if name == path.stem or (name.startswith(path.stem) and name == versioned_name(path)):
                return model_at(path, versioned_name(path))
        return None

    def _folder(self) -> Iterator[Path]:
        folder = self._config.live.adapters
        if folder is None:
            return
        files = sorted(path for path in folder.glob("*.gguf") if path.is_file())
        yield from files[:MAX_FOLDER]

    def _at(self, value: str, active: Model, *, names_only: bool) -> Model:
        known = f"({active.name}, candidate, base, or the name of an exported version or of a file in live.adapters)"
        if names_only:
            raise InputError(f"context.{OVERRIDE}: {value[:MAX_NAME]!r} is no known model {known}; nothing was asked")
        try:
            path = Path(value).expanduser()
            if path.is_file():
                read_header(path)  # before it is hashed: some files of the system have no end
            return model_at(path)
        except (InputError, OSError, ValueError, RuntimeError) as error:
            why = "is neither a file nor a known model"
            if isinstance(error, InputError) and "no such" not in str(error):
                raise
            raise InputError(f"context.{OVERRIDE}: {value[:MAX_NAME]!r} {why} {known}; nothing was asked") from None

    def _brought_in(self, model: Model) -> Model:
        """The model, loaded; only so many may be added to those in memory."""
        if not self._predictor.is_loaded(model):
            if len(self._brought) >= MAX_OVERRIDES:
                raise InputError(
                    f"context.{OVERRIDE}: {MAX_OVERRIDES} models were brought in already; restart to load more"
                )
            self._predictor.load(model)
            self._brought.add(model.sha256)
        return model
