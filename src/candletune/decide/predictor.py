"""The one path from a prompt to a decision: replay, signal, serve and shadow ask here.

A replay says something about the live side only because both come through `Predictor.predict`: the same template check,
the same decision, the same calibration of its probabilities, the same reading of the generated reason.

The decision is what the model itself says first, so a file dropped into plain llama.cpp, greedy, decides the same.
"""

import time
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from candletune.config import Config
from candletune.decide.adapters import AdapterFacts, adapter_facts, check_template
from candletune.decide.models import Model
from candletune.decisions import DECISIONS, Decision
from candletune.engines import Engine, open_copies, open_engine
from candletune.hashes import sha256_bytes
from candletune.journal import Side, Status
from candletune.prompts.parse import parse_answer
from candletune.prompts.template import load_template
from candletune.runs import RunFolder

Floats = NDArray[np.float64]
OpenEngine = Callable[[Path | None], Engine]


class Answer(TypedDict):
    """The Signal contract's object; `error` and `warnings` are there when there are any."""

    action: Decision | None
    reasoning: str
    model: str
    confidence: float | None
    probabilities: dict[Decision, float] | None
    status: Status
    error: NotRequired[str]
    warnings: NotRequired[list[str]]


@dataclass(frozen=True, slots=True)
class Prediction:
    """One model's answer to one prompt.

    Attributes:
        status: ok, invalid or error (skipped belongs to the shadow loop).
        model: the model's name.
        prompt_sha256: of the prompt as it was rendered.
        action: the decision, when the status is ok.
        reasoning: empty when none was asked for.
        probabilities: calibrated, of DECISIONS: how often each is right. The action is what the model says first, which
            need not be the likeliest: see `train.call_share`.
        adapter_sha256: of the model's file; None for the bare base.
        latency_ms: milliseconds: this prompt's share of scoring and of the reasons.
        error: what went wrong, in one line.
        warnings: what to know about the request, a sentence each.
    """

    status: Status
    model: str
    prompt_sha256: str = ""
    action: Decision | None = None
    reasoning: str = ""
    probabilities: dict[Decision, float] | None = None
    adapter_sha256: str | None = None
    latency_ms: float | None = None
    error: str | None = None
    warnings: tuple[str, ...] = ()

    @property
    def confidence(self) -> float | None:
        """The calibrated probability of the action."""
        return None if self.action is None or self.probabilities is None else self.probabilities[self.action]

    def answer(self) -> Answer:
        """The Signal contract's object; `error` and `warnings` are added when there are any."""
        shown = self.probabilities if self.status == "ok" else None
        answer: Answer = {
            "action": self.action,
            "reasoning": self.reasoning,
            "model": self.model,
            "confidence": None if self.confidence is None else round(self.confidence, 6),
            "probabilities": None
            if shown is None
            else {decision: round(probability, 6) for decision, probability in shown.items()},
            "status": self.status,
        }
        if self.error is not None:
            answer["error"] = self.error
        if self.warnings:
            answer["warnings"] = list(self.warnings)
        return answer

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


class Predictor:
    """Asks models for decisions. Not for several threads at once.

    The base is opened once and serves every adapter; a merged model is opened beside it, without an adapter. Each is
    opened when it is first asked for.

    Attributes:
        template: the prompt template in use.
    """

    def __init__(
        self, config: Config, run: RunFolder, *, engine: OpenEngine | None = None, copied: bool = False
    ) -> None:
        """Nothing is opened yet.

        Args:
            config: the whole configuration.
            run: names the base GGUF.
            engine: opens a whole model's GGUF, or with None the configured base; none: llama.cpp.
            copied: llama.cpp in `replay.copies` side by side.

        Raises:
            InputError: the template is missing or broken.
        """
        self._config = config
        self._open = engine or (lambda path: (open_copies if copied else open_engine)(config, run, path))
        self._engines: dict[str | None, Engine] = {}
        self._loaded: dict[str, AdapterFacts] = {}
        self.template = load_template(config.prompt.template)

    def load(self, model: Model) -> None:
        """Bring a model into memory, once; `predict` does so by itself.

        Raises:
            InputError: its file is missing, broken, of another base, or of another template.
        """
        if model.path is None or model.sha256 is None:
            self._engine(None)
            return
        if model.sha256 in self._loaded:
            return
        facts = adapter_facts(model.path)
        check_template(self._config, model.path, facts, self.template.sha256)
        if model.kind == "merged":
            self._engine(model)
        else:
            self._engine(None).add_adapter(model.sha256, model.path)
        self._loaded[model.sha256] = facts

    def facts(self, model: Model) -> AdapterFacts:
        """What a loaded model's file says of its training; nothing of the bare base."""
        return self._loaded.get(model.sha256 or "", AdapterFacts())

    def is_loaded(self, model: Model) -> bool:
        """Whether asking it brings nothing new into memory."""
        return model.sha256 in self._loaded if model.sha256 is not None else None in self._engines

    def predict(
        self,
        model: Model,
        prompts: Sequence[str],
        *,
        reasons: Container[int] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> list[Prediction]:
        """Decide about each prompt, and say why about some.

        Args:
            model: which one is asked.
            prompts: rendered with `template`.
            reasons: numbers of the prompts that get a reason (none given: all); the others take a fraction of the time.
            stop: asked often while the model works; once true, the work ends.

        Raises:
            Stopped: `stop` said so. The next prompt is answered as if this call had never been made.
            InputError: see `load`; or a prompt is too long, or carries control tokens.
        """
        self.load(model)
        engine = self._engine(model)
        engine.use(model.sha256 if model.kind == "adapter" else None)
        if stop is None:
            return self._predict(engine, model, prompts, reasons)
        engine.stop_when(stop)
        try:
            return self._predict(engine, model, prompts, reasons)
        finally:
            engine.stop_when(None)

    def close(self) -> None:
        """Free every model."""
        for engine in self._engines.values():
            engine.close()
        self._engines, self._loaded = {}, {}

    def _engine(self, model: Model | None) -> Engine:
        """The engine of a merged model, or that of the base."""
        whole = model if model is not None and model.kind == "merged" else None
        key = None if whole is None else whole.sha256
        if key not in self._engines:
            self._engines[key] = self._open(None if whole is None else whole.path)
        return self._engines[key]

    def _predict(
        self, engine: Engine, model: Model, prompts: Sequence[str], reasons: Container[int] | None
    ) -> list[Prediction]:
        start = time.perf_counter()
        scored = np.asarray(engine.score(prompts), dtype=np.float64)
        seconds = (time.perf_counter() - start) / max(1, len(prompts))
        if scored.shape != (len(prompts), len(DECISIONS)):
            scored = np.full((len(prompts), len(DECISIONS)), np.nan)
        usable = np.isfinite(scored).all(axis=1) & (scored >= 0).all(axis=1)
        usable &= np.isclose(scored.sum(axis=1), 1, atol=1e-3)
        own = np.where(usable[:, None], scored, 1 / len(DECISIONS))
        own /= own.sum(axis=1, keepdims=True)
        calibrated = self.facts(model).calibration.apply(own)
        actions = [DECISIONS[number] for number in own.argmax(axis=1)]
        said = _reasons(
            engine,
            prompts,
            actions,
            [n for n in range(len(prompts)) if usable[n] and (reasons is None or n in reasons)],
        )
        predictions = []
        for number, prompt in enumerate(prompts):
            known = Prediction("invalid", model.name, sha256_bytes(prompt.encode()), adapter_sha256=model.sha256)
            if not usable[number]:
                predictions.append(replace(known, error="the model's probabilities are not numbers that add up to one"))
                continue
            known = replace(known, probabilities=_by_decision(calibrated[number]))
            predictions.append(_with_reason(known, actions[number], said.get(number), seconds))
        return predictions


def _reasons(
    engine: Engine, prompts: Sequence[str], actions: Sequence[Decision], wanted: Sequence[int]
) -> dict[int, tuple[str, float]]:
    """What the model wrote, and its share of the seconds, by the prompt's number."""
    if not wanted:
        return {}
    start = time.perf_counter()
    written = engine.generate_all([prompts[number] for number in wanted], [actions[number] for number in wanted])
    share = (time.perf_counter() - start) / len(wanted)
    return {number: (answer.text, share) for number, answer in zip(wanted, written, strict=True)}


def _with_reason(known: Prediction, action: Decision, said: tuple[str, float] | None, seconds: float) -> Prediction:
    """The finished prediction; a generated reason that does not belong to the decision makes it invalid."""
    reasoning = ""
    if said is not None:
        text, more = said
        seconds += more
        parsed = parse_answer(text)
        if parsed.action != action:
            error = "the generated answer does not parse"
            return replace(known, error=error, latency_ms=_milliseconds(seconds))
        reasoning = parsed.reasoning
    return replace(known, status="ok", action=action, reasoning=reasoning, latency_ms=_milliseconds(seconds))


def _by_decision(probabilities: Floats) -> dict[Decision, float]:
    return dict(zip(DECISIONS, map(float, probabilities), strict=True))


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)
