"""The signal: a JSON context in, a JSON answer out. Which model is asked is settled here, the decision in `decide`."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from candletune.config import Config
from candletune.decide import Answer, Model, Prediction, Predictor
from candletune.engines import Engine, open_engine
from candletune.errors import CandletuneError, InputError, Unserved
from candletune.live.faults import Faults
from candletune.live.lines import error_answer, parse_context
from candletune.live.models import active_model
from candletune.live.overrides import OVERRIDE, Overrides
from candletune.prompts.context import clean_context, ignored_keys, missing_keys, untrained_sources
from candletune.runs import RunFolder

UNSERVED = 69
"""Nobody could have been answered (`sysexits.h` calls it so); no exit code of ours."""
MAX_WARNED = 100
"""Different warnings that are said; the answers carry all of them."""


class Trader:
    """Asks the active model, or another one, what to do in a context. Threads may share it; they take turns.

    Attributes:
        template_sha256: hash of the prompt template in use.
        faults: what went wrong, by kind.
    """

    def __init__(
        self, config: Config, *, engine: Engine | None = None, warn: Callable[[str], None] | None = None
    ) -> None:
        """Load the active model.

        Args:
            config: the whole configuration.
            engine: of the base, open already; none: llama.cpp with `base.gguf` or the run's own base.
            warn: hears each warning of the answers once.

        Raises:
            InputError: base, template or active model is missing, broken, or of another base or template.
        """
        run = RunFolder(config.run.folder)

        def opened(path: Path | None) -> Engine:
            return engine if path is None and engine is not None else open_engine(config, run, path)

        self.faults = Faults()
        self._config = config
        self._warn = warn
        self._warned: set[str] = set()
        self._lock = threading.RLock()
        self._predictor = Predictor(config, run, engine=opened)
        self.template_sha256 = self._predictor.template.sha256
        self._overrides = Overrides(config, self._predictor)
        self._state_version = self._version_of_state()
        self._active = active_model(config)
        self._predictor.load(self._active)
        self._proven: tuple[str, str | None] | None = None

    @property
    def active(self) -> Model:
        """The model that acts; follows promotions and rollbacks made while this object lives."""
        with self._lock:
            try:
                version = self._version_of_state()
                if version != self._state_version:
                    model = self._changed(gone=version is None)
                    self._predictor.load(model)
                    self._active, self._state_version = model, version
            except InputError as error:
                self.faults.add("state")
                raise Unserved(str(error)) from None
            return self._active

    def _changed(self, *, gone: bool) -> Model:
        """Who acts now, by a state file that is another one than before."""
        if gone:  # models were promoted: without the file the configured incumbent would act, and nobody be told
            path = self._config.live.state
            raise InputError(f"{path}: was there and is missing, so who acts is unknown; put it back, or start anew")
        return active_model(self._config)

    def predict(
        self,
        context: Mapping[str, Any],
        *,
        model: Model | None = None,
        reason: bool = True,
        stop: Callable[[], bool] | None = None,
        names_only: bool = False,
    ) -> Prediction:
        """Decide and say why.

        Args:
            context: the Signal contract's keys; `_lora_override` asks another model this once.
            model: asks this one instead, whatever `_lora_override` says.
            reason: False leaves the reason out (`reasoning` is empty), which takes a fraction of the time.
            stop: asked often while the model works; once true, the work ends.
            names_only: `_lora_override` may not be a path.

        Raises:
            Stopped: `stop` said so. The next question is answered as if this one had never been asked.
            InputError: the context is wrong, or the model is missing, of another base or template.
        """
        if not isinstance(context, Mapping):
            raise InputError(f"context: expected a JSON object, got {type(context).__name__}")
        given = dict(context)
        override = given.pop(OVERRIDE, None)
        # Decisions are made on this candle length; a request need not say so.
        given["timeframe"] = given.get("timeframe") or self._config.data.timeframe
        with self.faults.counted("context"):
            known = clean_context(given)
            prompt = self._predictor.template.render(known)
        with self._lock:
            chosen = model or self._asked_for(override, names_only=names_only)
            with self.faults.counted("model"):
                (prediction,) = self._predictor.predict(chosen, [prompt], reasons=None if reason else (), stop=stop)
            return replace(prediction, warnings=self._warnings(given, known, chosen))

    def _asked_for(self, override: Any, *, names_only: bool) -> Model:
        active = self.active
        with self.faults.counted("override"):
            return self._overrides.find(override, active, names_only=names_only) or active

    def _warnings(self, given: Mapping[str, Any], known: Mapping[str, Any], model: Model) -> tuple[str, ...]:
        """What to know about a request: keys ignored or missing, context the model's training never had."""
        visible = self._predictor.template.visible(known)
        trained = self._predictor.facts(model).context_sources
        warnings = (*ignored_keys(given), *missing_keys(visible, trained), *untrained_sources(visible, trained))
        for sentence in warnings:
            if self._warn is not None and sentence not in self._warned and len(self._warned) < MAX_WARNED:
                self._warned.add(sentence)
                self._warn(sentence)
        return warnings

    def score(self, context: Mapping[str, Any], *, model: Model | None = None) -> Prediction:
        """`predict` without a reason."""
        return self.predict(context, model=model, reason=False)

    def prove(self) -> Model:
        """Have the active model answer once, unless it has; who it is.

        Raises:
            InputError: it does not answer, or with what are no probabilities.
        """
        with self._lock:
            active = self.active
            if self._proven != (active.kind, active.sha256):
                answer = self.score({"ticker": "BTC", "price_usd": 1.0}, model=active)
                if answer.status != "ok":
                    raise InputError(f"{active.name}: does not answer ({answer.error or answer.status})")
                self._proven = (active.kind, active.sha256)
            return active

    def close(self) -> None:
        """Free every model."""
        with self._lock:
            self._predictor.close()

    def _version_of_state(self) -> tuple[int, int] | None:
        try:
            state = self._config.live.state.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InputError(
                f"{self._config.live.state}: cannot be read ({error.strerror}); check its folder"
            ) from None
        return state.st_mtime_ns, state.st_ino


def answer_text(
    trader: Trader, text: str | bytes, *, stop: Callable[[], bool] | None = None, names_only: bool = False
) -> tuple[Answer, int]:
    """Answer a JSON text, whatever is in it; the second value is the exit code (0, or the error's), or `UNSERVED`.

    Args:
        trader: who is asked.
        text: a context.
        stop: see `Trader.predict`.
        names_only: see `Trader.predict`; whoever answers others sets it.
    """
    try:
        with trader.faults.counted("context"):
            context = parse_context(text)
        return trader.predict(context, stop=stop, names_only=names_only).answer(), 0
    except Unserved as error:
        return error_answer(error), UNSERVED
    except CandletuneError as error:
        return error_answer(error), error.exit_code
    except Exception as error:  # the boundary: one request must not end those that come after it
        trader.faults.add("internal")
        return error_answer(error), CandletuneError.exit_code
