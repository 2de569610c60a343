"""One training of a run from start, or from its last checkpoint, to the adapter that is kept."""

from dataclasses import dataclass
from typing import Any

from candletune.artifacts import DecisionPolicy, EvalFigures, ProbabilityCalibration, TrainingResult
from candletune.base.find import Base
from candletune.config import Config
from candletune.console import Reporter
from candletune.runs import RunFolder
from candletune.training.checkpoints import recipe_fingerprint, resumed
from candletune.training.engine import EngineSetup
from candletune.training.engines import load_model, open_engine
from candletune.training.policy import PolicyData, teach_policy
from candletune.training.prepare import TrainingData
from candletune.training.recipe import steps_of, train_adapter
from candletune.training.watch import TrainingFiles, Watcher


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """What a training came to.

    Attributes:
        model: with its adapter as it is to be saved.
        result: how the training went.
        evaluation: of the kept adapter, before it was taught how often to act.
        policy, calibration: see `candletune.training.policy`.
    """

    model: Any
    result: TrainingResult
    evaluation: EvalFigures
    policy: DecisionPolicy | None
    calibration: ProbabilityCalibration | None


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """What is trained.

    Attributes:
        base: the base model.
        device: `cuda` or `cpu`.
        data: tokenized examples; their file's hash, base, settings and seed decide what may be resumed.
    """

    base: Base
    device: str
    data: TrainingData


def run_training(job: TrainingJob, config: Config, run: RunFolder, reporter: Reporter) -> TrainedModel:
    """Train, resuming where there is a checkpoint of the same data, base and settings.

    Raises:
        InputError: the loss is not finite, or memory does not hold one example.
    """
    trained_over = job.base.gguf_sha256 or job.base.sha256
    fingerprint = recipe_fingerprint(config.train, job.data.dataset_sha256, trained_over, config.seed, job.data.chat)
    resume = resumed(run.checkpoints, run.train_metrics, fingerprint)
    if resume is not None:
        reporter.say(f"resuming from {resume.name}")
    examples = job.data.examples
    model = load_model(job.base.path, config.train, job.device, config.seed)
    engine = open_engine(model, EngineSetup(config.train, examples, job.data.pad, reporter.warn))
    try:
        with reporter.task("training", steps_of(config.train, len(examples))) as task:
            watcher = Watcher(
                engine,
                job.data.held_out,
                config.train,
                files=TrainingFiles(run.train_metrics, run.checkpoints),
                task=task,
                reporter=reporter,
            )
            result = train_adapter(model, examples, config.train, watcher=watcher, resume=resume, seed=config.seed)
        evaluation = watcher.evaluation(result.steps)
        data = PolicyData(
            examples,
            job.data.held_out,
            job.data.class_shares,
            job.data.base_rates,
            result.steps,
            job.data.held_out_gains,
            job.data.held_out_days,
        )
        policy, calibration = teach_policy(model, engine, data, config.train, seed=config.seed, reporter=reporter)
        return TrainedModel(model, result, evaluation, policy, calibration)
    finally:
        engine.close()
