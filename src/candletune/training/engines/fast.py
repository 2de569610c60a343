"""The fast engine's entry: where it applies, on one GPU or shared with others (see `training/fast`)."""

from pathlib import Path
from typing import Any

from candletune.training.adapter import load_with_adapter, trained_device
from candletune.training.engine import EngineKind, EngineSetup, TrainingEngine
from candletune.training.fast.engine import FastEngine
from candletune.training.fast.preflight import plan_for, unsupported


def refusal(model: Any, setup: EngineSetup) -> str | None:
    """Why the fast engine cannot run this model over these examples, or None."""
    reason = unsupported(model)
    window = getattr(model.config, "sliding_window", None)
    if reason is None and window and window < max(len(example.ids) for example in setup.examples):
        return "examples are longer than its sliding window"
    return reason


def open_fast(model: Any, setup: EngineSetup) -> TrainingEngine:
    """The engine over a model; with several visible GPUs (`train.gpus`) one whose steps they share.

    Raises:
        InputError: the memory budget is too small.
    """
    config, batch = setup.config, setup.config.effective_batch
    others: list[str] = []
    if trained_device(model).type == "cuda" and config.gpus != 1:
        from candletune.training.fast.parallel import other_devices

        others = other_devices(config.gpus)[: batch - 1]
    share = -(-batch // (len(others) + 1))
    engine = FastEngine(model, plan_for(model, config, setup.examples, batch=share), say=setup.say, call_size=batch)
    if not others:
        return engine
    from candletune.training.fast.parallel import DataParallelEngine, WorkerTask

    task = WorkerTask(Path(model.get_base_model().name_or_path), config, list(setup.examples), share)
    return DataParallelEngine(engine, task, devices=others, say=setup.say)


ENGINE = EngineKind(open=open_fast, load=load_with_adapter, refusal=refusal, automatic=("cuda",), preference=1)
