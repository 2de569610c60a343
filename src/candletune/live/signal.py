"""One base model, the adapters on it, and the questions asked of them."""

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from candletune.config import Config
from candletune.decide.adapters import AdapterFacts, adapter_facts, calibration_of
from candletune.decide.calibration import Calibration, Floats, correct_prior
from candletune.decisions import DECISIONS, Decision
from candletune.engines import Engine
from candletune.errors import CandletuneError, InputError
from candletune.hashes import sha256_bytes
from candletune.journal import Side, Status
from candletune.live.promotion import BARE_BASE, Adapter, active_adapter, adapter_at, candidate_adapter
from candletune.prompts.context import clean_context
from candletune.prompts.parse import parse_answer
from candletune.prompts.template import load_template
from candletune.runs import RunFolder

OVERRIDE = "_lora_override"
MAX_OVERRIDES = 4
"""Adapters that requests may bring into memory beside the active one and the candidate."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """One model's answer to one context.

    Attributes:
        status: ok, invalid or error (skipped belongs to the shadow loop).
        probabilities: of DECISIONS, after the prior correction and before calibration: what journals hold.
        confidence: calibrated probability of the action.
        calibrated: calibrated probabilities.
        latency_ms: milliseconds for scoring and the reason.
    """

    status: Status
    model: str
    prompt_sha256: str = ""
    action: Decision | None = None
    reasoning: str = ""
    probabilities: dict[Decision, float] | None = None
    calibrated: dict[Decision, float] | None = None
    adapter_sha256: str | None = None
    latency_ms: float | None = None
    error: str | None = None

    @property
    def confidence(self) -> float | None:
        """The calibrated probability of the action."""
        return None if self.action is None or self.calibrated is None else self.calibrated[self.action]

    def answer(self) -> dict[str, Any]:
        """The Signal contract's object; `error` is added when there is one."""
        answer: dict[str, Any] = {
            "action": self.action,
            "reasoning": self.reasoning,
            "model": self.model,
            "confidence": None if self.confidence is None else round(self.confidence, 6),
            "probabilities": None
            if self.calibrated is None
            else {decision: round(chance, 6) for decision, chance in self.calibrated.items()},
            "status": self.status,
        }
        return answer if self.error is None else answer | {"error": self.error}

    def side(self) -> Side:
        """What the journal keeps of it."""
        return Side(
            self.status,
            self.action,
            self.reasoning or None,
            self.probabilities,
            self.latency_ms,
            self.adapter_sha256,
            self.error,
        )


class Trader:
    """Asks the active adapter, or another one, what to do in a context. Threads may share it; they take turns.

    Attributes:
        template_sha256: hash of the prompt template in use.
    """

    def __init__(self, config: Config, *, engine: Engine | None = None) -> None:
        """Load the base and the active adapter.

        Args:
            config: the whole configuration.
            engine: one that is open already; none: llama.cpp with `base.gguf` or the run's own base.

        Raises:
            InputError: base, template or active adapter is missing, broken, or of another base or template.
        """
        self._config = config
        self._lock = threading.RLock()
        self._template = load_template(config.prompt.template)
        self.template_sha256 = self._template.sha256
        self._loaded: dict[str, tuple[AdapterFacts, Calibration]] = {}
        self._overrides: set[str] = set()
        self._state_mark = self._mark()
        active = active_adapter(config)
        if engine is None:
            from candletune.engines import open_engine

            engine = open_engine(config, RunFolder(config.run.folder))
        self._engine = engine
        self._active = active
        self._load(active)

    @property
    def active(self) -> Adapter:
        """The adapter that acts; follows promotions and rollbacks made while this object lives."""
        with self._lock:
            mark = self._mark()
            if mark != self._state_mark:
                adapter = active_adapter(self._config)
                self._load(adapter)
                self._active, self._state_mark = adapter, mark
            return self._active

    def predict(
        self,
        context: Mapping[str, Any],
        *,
        adapter: Adapter | None = None,
        reason: bool = True,
        stop: Callable[[], bool] | None = None,
    ) -> Prediction:
        """Decide and say why.

        Args:
            context: the Signal contract's keys; `_lora_override` asks another adapter this once.
            adapter: asks this one instead; `_lora_override` must then be absent.
            reason: False leaves the reason out (`reasoning` is empty), which takes a fraction of the time.
            stop: asked often while the model works; once true, the work ends.

        Raises:
            Stopped: `stop` said so. The next question is answered as if this one had never been asked.
            InputError: the context is wrong, or the adapter is missing, of another base or template.
        """
        if not isinstance(context, Mapping):
            raise InputError(f"context: expected a JSON object, got {type(context).__name__}")
        given = dict(context)
        override = given.pop(OVERRIDE, None)
        prompt = self._template.render(clean_context(given))
        with self._lock:
            chosen = adapter or self._override(override) or self.active
            if stop is None:
                return self._ask(chosen, prompt, reason=reason)
            self._engine.stop_when(stop)
            try:
                return self._ask(chosen, prompt, reason=reason)
            finally:
                self._engine.stop_when(None)

    def score(self, context: Mapping[str, Any], *, adapter: Adapter | None = None) -> Prediction:
        """`predict` without a reason."""
        return self.predict(context, adapter=adapter, reason=False)

    def close(self) -> None:
        """Free the model."""
        with self._lock:
            self._engine.close()

    def _mark(self) -> tuple[int, int] | None:
        try:
            state = self._config.live.state.stat()
        except FileNotFoundError:
            return None
        return state.st_mtime_ns, state.st_ino

    def _override(self, value: Any) -> Adapter | None:
        """The adapter a request names: a path, `candidate`, `base`, or the name of the active one."""
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            raise InputError(f"context.{OVERRIDE}: expected a path or a name, got {value!r}")
        active = self.active
        if value in (active.name, "active"):
            return active
        if value in ("base", BARE_BASE):
            return Adapter(BARE_BASE)
        candidate = RunFolder(self._config.run.folder).gguf / f"{value}.gguf"
        if value == "candidate" or candidate.is_file():
            return candidate_adapter(self._config) if value == "candidate" else adapter_at(candidate)
        try:
            adapter = adapter_at(Path(value).expanduser())
        except (InputError, OSError, ValueError):
            raise InputError(
                f"context.{OVERRIDE}: {value!r} is neither a file nor a known adapter "
                f"({active.name}, candidate, base); nothing was asked"
            ) from None
        if adapter.sha256 is not None and adapter.sha256 not in self._loaded:
            if len(self._overrides) >= MAX_OVERRIDES:
                raise InputError(
                    f"context.{OVERRIDE}: {MAX_OVERRIDES} adapters were brought in already; restart to load more"
                )
            self._load(adapter)
            self._overrides.add(adapter.sha256)
        return adapter

    def _load(self, adapter: Adapter) -> None:
        if adapter.path is None or adapter.sha256 is None or adapter.sha256 in self._loaded:
            return
        facts = adapter_facts(adapter.path)
        wanted = facts.template_sha256
        if wanted is not None and wanted != self.template_sha256 and not self._config.live.any_template:
            raise InputError(
                f"{adapter.path}: trained with template {wanted[:12]}, prompt.template is {self.template_sha256[:12]}; "
                "use the one it was trained with, or set live.any_template=true"
            )
        self._engine.add_adapter(adapter.sha256, adapter.path)
        self._loaded[adapter.sha256] = facts, calibration_of(self._config, adapter.sha256)

    def _ask(self, adapter: Adapter, prompt: str, *, reason: bool) -> Prediction:
        start = time.perf_counter()
        self._load(adapter)
        self._engine.use(adapter.sha256)
        known = Prediction("invalid", adapter.name, sha256_bytes(prompt.encode()), adapter_sha256=adapter.sha256)
        raw = np.asarray(self._engine.score([prompt]), dtype=np.float64)
        if (
            raw.shape != (1, 3)
            or not np.isfinite(raw).all()
            or (raw < 0).any()
            or not np.isclose(raw.sum(), 1, atol=1e-3)
        ):
            return replace(known, error="the model's probabilities are not numbers that add up to one")
        chances, calibrated = self._judge(adapter, raw[0])
        action = DECISIONS[int(chances.argmax())]
        reasoning = ""
        if reason:
            parsed = parse_answer(self._engine.generate(prompt, action=action).text)
            if parsed.action != action:
                return replace(known, error="the generated answer does not parse", latency_ms=_milliseconds(start))
            reasoning = parsed.reasoning
        return replace(
            known,
            status="ok",
            action=action,
            reasoning=reasoning,
            probabilities=_by_decision(chances),
            calibrated=_by_decision(calibrated),
            latency_ms=_milliseconds(start),
        )

    def _judge(self, adapter: Adapter, raw: Floats) -> tuple[Floats, Floats]:
        """Prior-corrected and calibrated probabilities."""
        facts, calibration = self._loaded.get(adapter.sha256 or "", (AdapterFacts(), Calibration()))
        chances = raw / raw.sum()
        if self._config.live.prior_correction and facts.class_prior and facts.natural_prior:
            chances = correct_prior(chances, facts.class_prior, facts.natural_prior)
        return chances, calibration.apply(chances)


def error_answer(error: CandletuneError | str) -> dict[str, Any]:
    """The Signal contract's object for a request that could not be answered."""
    return Prediction("error", "", error=" ".join(str(error).split())).answer()


def answer_text(trader: Trader, text: str | bytes) -> tuple[dict[str, Any], int]:
    """Answer a JSON text; the second value is the exit code (0, or the error's)."""
    try:
        try:
            context = json.loads(text)
        except ValueError as error:
            raise InputError(f"context: not valid JSON ({error}); send one JSON object") from None
        return trader.predict(context).answer(), 0
    except CandletuneError as error:
        return error_answer(error), error.exit_code


def _by_decision(chances: Floats) -> dict[Decision, float]:
    return dict(zip(DECISIONS, map(float, chances), strict=True))


def _milliseconds(start: float) -> float:
    return round((time.perf_counter() - start) * 1000, 3)
