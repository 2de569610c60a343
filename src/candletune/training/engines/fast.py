"""The fast engine's entry: where it applies, on one GPU or shared by several processes (see `training/fast`)."""

from pathlib import Path
from typing import Any

from candletune.errors import UsageError
from candletune.hashes import sha256_path
from candletune.training.adapter import load_with_adapter
from candletune.training.engine import EngineKind, EngineSetup, TrainingEngine
from candletune.training.fast.engine import FastEngine
from candletune.training.fast.preflight import plan_for, unsupported
from candletune.training.fast.seats import taken_seat


def refusal(model: Any, setup: EngineSetup) -> str | None:
    """Why the fast engine cannot run this model over these examples, or None."""
    reason = unsupported(model)
    window = getattr(model.config, "sliding_window", None)
    if reason is None and window and window < max(len(example.ids) for example in setup.examples):
        return "examples are longer than its sliding window"
    return reason


def open_fast(model: Any, setup: EngineSetup) -> TrainingEngine:
    """The engine over a model; where several processes were started, one whose steps they share.

    Raises:
        UsageError: more processes than examples of a step.
        InputError: the memory budget is too small, or another process cannot begin.
    """
    config, batch, seat = setup.config, setup.config.effective_batch, taken_seat()
    if seat is None:
        return FastEngine(model, plan_for(model, config, setup.examples, batch=batch), say=setup.say, call_size=batch)
    if seat.count > batch:
        raise UsageError(f"train.gpus: {seat.count} processes, but a step has {batch} examples; start at most {batch}")
    from candletune.training.fast.distributed import DistributedEngine, Share

    each = -(-batch // seat.count)
    engine = FastEngine(model, plan_for(model, config, setup.examples, batch=each), say=setup.say, call_size=batch)
    base = Path(model.get_base_model().name_or_path)
    same = config.model_copy(update={"batch_size": engine.plan.micro_batch})  # of which the masks of dropout depend
    return DistributedEngine(engine, Share(base, sha256_path(base), same, list(setup.examples), each), seat)


ENGINE = EngineKind(open=open_fast, load=load_with_adapter, refusal=refusal, automatic=("cuda",), preference=1)
