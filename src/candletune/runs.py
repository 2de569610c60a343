"""The run folder: its files, its manifest and its lock."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from filelock import FileLock, Timeout

from candletune import __version__
from candletune.artifacts import RunManifest, StageEntry
from candletune.artifacts.run_manifest import Summary
from candletune.errors import InputError, UsageError
from candletune.files import long_path, make_folder

MANIFEST = "manifest.json"
_VERSIONED = ("polars", "ta-lib", "torch", "transformers", "peft", "bitsandbytes", "llama-cpp-python", "gguf")

_MAKERS = {
    "dataset": "dataset",
    "adapter": "train",
    "train": "train",
    "gguf": "export",  # but for the base
    "verify": "verify",
    "replay": "replay",
    "evaluation": "evaluate",
    "report": "report",
}
"""Folder in a run folder -> the stage that writes it."""


class RunLocked(UsageError):
    """Another process works in the run folder."""


class RunFolder:
    """A folder that holds every file of one run; the one place where they are named.

    Attributes:
        path: the folder.
        manifest_file: what each finished stage was made from, wrote and said.
        dataset: the dataset stage's folder.
        jsonl: the training examples.
        meta: the facts behind them, row for row.
        natural_eval: eval rows at the base rates.
        dataset_manifest: how the dataset was made.
        card: the dataset for a person.
        audit, audit_card: what an audit found, for programs and for a person.
        adapter: the trained adapter, a PEFT folder.
        checkpoints: the trainer's checkpoints.
        train_metrics: a line a logged step.
        train_summary: how training ended.
        gguf: exported files, older versions too.
        adapter_gguf: the LoRA for llama.cpp.
        merged_gguf: the merged model.
        base_gguf: the base written from base.model.
        certificate: the certificate.
        journal: the replay's A/B log.
        replay_fingerprint: which replay the journal belongs to.
        untuned: the bare base's decisions on some rows.
        metrics: what was measured.
        verdict: the latest verdict on the replay.
        shadow_verdict: the latest verdict on a shadow test's journal.
        verdicts: every verdict, a file each.
        scored: rows joined with outcomes.
        shadow_metrics, shadow_scored: the same two of a shadow test's journal.
        reviews: people's answers.
        review_sample: reasons to be reviewed.
        report: the report.
        shadow_report: the report about a shadow test's journal.
        attainable: a simulated market's best attainable accuracy.
        candles: simulated candles.
        progress: what a stage at work is doing.
        history: what retraining keeps of earlier trainings, a folder each.
        demo_config: the demo's configuration, for every other command.
        walk: the folder of `candletune walk`: a run folder for all periods together, and one for each below it.
        walk_periods: of a walk's folder: the periods and what each came to.
        coins: the folder of `candletune coins`: a run folder for each training.
        coins_record: of the run folder: what became of each coin.
        sweep: the folder of `candletune sweep`: a run folder for each trial, and what each came to.
        sweep_trials: of a sweep's folder: the trials and the winner.
        sweep_winner: of a sweep's folder: the winner's configuration.
    """

    def __init__(self, path: Path) -> None:
        self.path = path = long_path(path, room=100)
        self.manifest_file = path / MANIFEST
        self.dataset = path / "dataset"
        self.jsonl = path / "dataset/lora_training.jsonl"
        self.meta = path / "dataset/lora_training.meta.parquet"
        self.natural_eval = path / "dataset/natural_eval.parquet"
        self.dataset_manifest = path / "dataset/manifest.json"
        self.card = path / "dataset/card.html"
        self.audit = path / "audit/audit.json"
        self.audit_card = path / "audit/card.html"
        self.adapter = path / "adapter"
        self.checkpoints = path / "train/checkpoints"
        self.train_metrics = path / "train/metrics.jsonl"
        self.train_summary = path / "train/summary.json"
        self.gguf = path / "gguf"
        self.adapter_gguf = path / "gguf/custom-trading-lora.gguf"
        self.merged_gguf = path / "gguf/custom-trading-merged.gguf"
        self.base_gguf = path / "gguf/base.gguf"
        self.certificate = path / "verify/verify.json"
        self.journal = path / "replay/ab_test_log.jsonl"
        self.replay_fingerprint = path / "replay/replay.json"
        self.untuned = path / "replay/untuned_base.parquet"
        self.metrics = path / "evaluation/metrics.json"
        self.verdict = path / "evaluation/verdict.json"
        self.shadow_verdict = path / "evaluation/shadow_verdict.json"
        self.verdicts = path / "evaluation/verdicts"
        self.scored = path / "evaluation/scored.parquet"
        self.shadow_metrics = path / "evaluation/shadow_metrics.json"
        self.shadow_scored = path / "evaluation/shadow_scored.parquet"
        self.reviews = path / "evaluation/reviews.jsonl"
        self.review_sample = path / "evaluation/review_sample.jsonl"
        self.report = path / "report/index.html"
        self.shadow_report = path / "report/shadow.html"
        self.attainable = path / "attainable.json"
        self.candles = path / "candles"
        self.progress = path / "progress.json"
        self.history = path / "history"
        self.demo_config = path / "candletune.toml"
        self.walk = path / "walk"
        self.walk_periods = path / "walk.json"
        self.coins = path / "coins"
        self.coins_record = path / "coins/coins.json"
        self.sweep = path / "sweep"
        self.sweep_trials = path / "sweep.json"
        self.sweep_winner = path / "winner.toml"

    def file(self, *parts: str) -> Path:
        """A path inside the run folder; nothing is created."""
        return self.path.joinpath(*parts)

    def made_by(self, path: Path) -> str | None:
        """The stage that writes a path of this run folder; None for a file from elsewhere."""
        if not path.is_relative_to(self.path):
            return None
        if path == self.base_gguf:
            return "base"
        return _MAKERS.get(path.relative_to(self.path).parts[0])

    def exported(self, merged: bool) -> Path:
        """The exported file: the merged model, or the LoRA."""
        return self.merged_gguf if merged else self.adapter_gguf

    @contextmanager
    def lock(self, *, patience: float = 0.0) -> Iterator[None]:
        """Hold the run folder's lock; a second process gets a `UsageError`. The system frees it at any exit.

        Args:
            patience: seconds to wait for another process that may be about to end.
        """
        make_folder(self.path)
        lock = FileLock(self.file(".lock"))
        try:
            lock.acquire(timeout=patience)
        except Timeout:
            raise RunLocked(
                f"{self.path}: another candletune process works in this run folder; wait for it or choose another "
                "one with --set run.folder=FOLDER"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def manifest(self) -> RunManifest:
        """The manifest, or an empty one for a new run."""
        return RunManifest.read_if_there(self.manifest_file) or RunManifest(stages={})

    def entry(self, name: str) -> StageEntry | None:
        """A finished stage's entry in the manifest; None when it has not finished."""
        return self.manifest().stages.get(name)

    def summary_if_done(self, kind: type[Summary]) -> Summary | None:
        """What a finished stage said; None when it has not finished."""
        entry = self.entry(kind.STAGE)
        return None if entry is None else entry.summary_as(kind, self.manifest_file)

    def summary(self, kind: type[Summary]) -> Summary:
        """What a finished stage said; an `InputError` says which command to run when it has not finished."""
        summary = self.summary_if_done(kind)
        if summary is None:
            raise InputError(f"{self.path}: stage '{kind.STAGE}' has not run here; run `candletune {kind.STAGE}` first")
        return summary


def versions() -> dict[str, str]:
    """Versions of Python, candletune and the packages that shape results (only those installed)."""
    installed = {"python": platform.python_version(), "candletune": __version__}
    for name in _VERSIONED:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    return installed
