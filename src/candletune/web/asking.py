"""One question at a time to models of any run. A base is loaded once for all that stand on it, and one at a time."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from candletune.config import Config
from candletune.decide import Model, Prediction, Predictor
from candletune.engines import Engine, base_gguf, open_engine
from candletune.errors import CandletuneError, InputError
from candletune.hashes import sha256_path
from candletune.prompts.context import clean_context
from candletune.prompts.grounding import Claim, check_reason
from candletune.runs import RunFolder
from candletune.web.worker import Worker

WAITING: Final = 16
"""Questions that wait at most."""
GIVE_UP: Final = 1.0
"""Seconds, at the end, for a model that was told to stop."""
OpenEngine = Callable[[Config, RunFolder, Path | None], Engine]


class Busy(CandletuneError):
    """Too many questions wait already."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A model's answer: what it read, what it said, and which of its claims are true of the facts."""

    prompt: str
    prediction: Prediction
    claims: list[Claim]


class Asker:
    """Keeps what it has loaded until a model of another base is asked."""

    def __init__(self, opened: OpenEngine = open_engine) -> None:
        """Nothing is loaded yet."""
        self._opened = opened
        self._worker = Worker("ask")
        self._held: object = None
        self._engines: list[Engine] = []
        self._base: Engine | None = None
        self._predictors: dict[Path, Predictor] = {}
        self._waiting = 0
        self._ending = False

    async def ask(self, config: Config, run: RunFolder, model: Model, context: Mapping[str, Any]) -> Asked:
        """Decide and say why.

        Args:
            config: as the run is looked at.
            run: whose base and prompt template are used.
            model: of that run.
            context: the Signal contract's keys.

        Raises:
            Busy: too many wait.
            InputError: the context is wrong, or the model is missing, broken, of another base or template.
        """
        if self._waiting >= WAITING:
            raise Busy(f"{WAITING} questions wait already; try again")
        self._waiting += 1
        try:
            return await self._worker.do(lambda: self._ask(config, run, model, context))
        finally:
            self._waiting -= 1

    def _ask(self, config: Config, run: RunFolder, model: Model, context: Mapping[str, Any]) -> Asked:
        given = dict(context)
        given["timeframe"] = given.get("timeframe") or config.data.timeframe
        known = clean_context(given)
        predictor = self._predictor(config, run, model)
        prompt = predictor.template.render(known)
        (prediction,) = predictor.predict(model, [prompt], stop=lambda: self._ending)
        return Asked(prompt, prediction, check_reason(prediction.reasoning, predictor.template.visible(known)))

    def _predictor(self, config: Config, run: RunFolder, model: Model) -> Predictor:
        """The run's, over the base that is loaded; another base, or a merged model, takes its place."""
        whole = model.path if model.kind == "merged" else None
        file = whole or base_gguf(config, run)
        if not file.is_file():
            raise InputError(f"{file}: the base is missing; run `candletune base` for this run")
        held = (sha256_path(file), config.engine)
        if held != self._held:
            self._free()
            self._held = held
        known = self._predictors.get(run.path)
        if known is None:
            known = Predictor(config, run, engine=lambda path: self._engine(config, run, path))
            self._predictors[run.path] = known
        return known

    def _engine(self, config: Config, run: RunFolder, path: Path | None) -> Engine:
        if path is None and self._base is not None:
            return self._base
        engine = self._opened(config, run, path)
        self._engines.append(engine)
        if path is None:
            self._base = engine
        return engine

    def _free(self) -> None:
        for engine in self._engines:
            engine.close()
        self._engines, self._base, self._predictors, self._held = [], None, {}, None

    def end(self) -> None:
        """Whatever is asked now stops soon."""
        self._ending = True

    def close(self) -> None:
        """Free the models, unless one does not come back."""
        self.end()
        if self._worker.close(GIVE_UP):
            self._free()
