"""The `train` stage's work in this process: the adapter and, in its manifest, everything it was made from."""

from pathlib import Path
from typing import TYPE_CHECKING

from candletune.artifacts import AdapterRecord, DatasetManifest, DecisionPolicy, TrainSummary
from candletune.base.quiet import quiet
from candletune.config import Config
from candletune.console import Reporter
from candletune.files import atomic_folder, read_json, remove, write_json
from candletune.runs import RunFolder

if TYPE_CHECKING:
    from candletune.base.find import Base
    from candletune.training.prepare import TrainingData
    from candletune.training.session import TrainedModel

FAR_OFF = 0.05
"""Difference in the share of calls that is worth a warning."""


@quiet()
def train_here(config: Config, run: RunFolder, reporter: Reporter) -> TrainSummary:
    """The stage's work in this process; where it is the first of several, steps are shared with the others."""
    from candletune.base.check import check_base
    from candletune.base.find import resolve_base
    from candletune.base.load import pick_device, storage_of
    from candletune.training.prepare import check_init_adapter, prepare_data
    from candletune.training.session import TrainingJob, run_training

    base = resolve_base(config, reporter)
    check_base(base.path, config)
    check_init_adapter(config.train.init_adapter, base.name, base.sha256)
    # From here on the settings say what is done: the manifest too, and what a checkpoint belongs to.
    storage = storage_of(config.train.quantization, base.path)
    config = config.model_copy(update={"train": config.train.model_copy(update={"quantization": storage})})
    device = pick_device(config.train.device)
    data = prepare_data(config, run, base.path, reporter)
    trained = run_training(TrainingJob(base, device, data), config, run, reporter)
    _save_adapter(trained, config, run, base, data)
    result, evaluation = trained.result, trained.evaluation
    _tell(trained.policy, reporter)
    summary = TrainSummary(
        headline=f"{result.steps} steps, loss {result.train_loss:.3f}, decision accuracy at the base rates "
        f"{evaluation.accuracy or 0.0:.1%} (balanced {evaluation.balanced_accuracy or 0.0:.1%})",
        **dict(result),
        device=device,
        shortened=data.shortened,
        eval=evaluation.figures(),
        policy=trained.policy,
        calibration=trained.calibration,
    )
    write_json(run.train_summary, summary.model_dump(mode="json"))
    return summary


def _tell(policy: DecisionPolicy | None, reporter: Reporter) -> None:
    """How often the adapter acts, and a warning where that could not be taught."""
    if policy is None:
        return
    told = f"calls BUY or SELL on {policy.reached:.1%} of {policy.rows} held-out rows, {policy.wanted:.1%} were wanted"
    if abs(policy.reached - policy.wanted) > FAR_OFF:
        reporter.warn(
            f"the adapter {told}: too alike are its answers to different prompts; train longer, or with more examples"
        )
    else:
        reporter.say(f"the adapter {told}")


def _save_adapter(trained: "TrainedModel", config: Config, run: RunFolder, base: "Base", data: "TrainingData") -> None:
    """The PEFT folder and, in its manifest, everything the adapter was made from."""
    from candletune.base.find import served_sha256
    from candletune.base.load import storage_of
    from candletune.training.prepare import recorded_settings

    dataset = DatasetManifest.read(run.dataset_manifest)
    record = AdapterRecord(
        base=base.name,
        base_sha256=base.sha256,
        base_gguf_sha256=served_sha256(config, run),
        storage="gguf" if base.gguf_sha256 else storage_of(config.train.quantization, base.path),
        template_sha256=dataset.template_sha256,
        dataset_sha256=data.dataset_sha256,
        train_end=dataset.train_end.isoformat(),
        class_prior=dict(dataset.natural_prior if config.train.objective == "utility" else dataset.class_prior),
        natural_prior=dict(dataset.natural_prior),
        context_sources=dataset.context_sources,
        decision_ids=tuple(data.tokens.ids),
        chat=data.chat,
        seed=config.seed,
        policy=trained.policy,
        calibration=trained.calibration,
        train=recorded_settings(config.train),
        labels=config.labels.model_dump(mode="json"),
    )
    with atomic_folder(run.adapter) as folder:
        trained.model.save_pretrained(folder, safe_serialization=True)
        remove(folder / "README.md")
        _settle_config(folder / "adapter_config.json", base.name)
        record.write(folder / AdapterRecord.FILE)


def _settle_config(path: Path, base: str) -> None:
    """PEFT writes a cache path and a set in hash order; the same run must give the same bytes on any machine."""
    settings = read_json(path)
    settings["base_model_name_or_path"] = base
    settings["target_modules"] = sorted(settings["target_modules"])
    write_json(path, settings)
