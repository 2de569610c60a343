"""A run folder up to its export over a random base, and what an export may answer, for tests of the certificate."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from adapters import make_adapter
from candletune.artifacts import ExportSummary, VerifySummary
from candletune.base.find import base_hash
from candletune.config import Config, load_config
from candletune.console import SilentReporter
from candletune.engines import Generation
from candletune.engines.certify import ExportAnswers
from candletune.gguf.adapter import write_adapter
from candletune.gguf.peft import Adapter, read_adapter
from candletune.model_shape import read_shape
from candletune.prompts.template import load_template
from candletune.runs import RunFolder
from candletune.stages.base import STAGE as BASE
from candletune.stages.export import STAGE as EXPORT
from candletune.stages.runner import run_stage
from candletune.stages.verify import ENDED, PARSED, PLAIN
from candletune.stages.verify import STAGE as VERIFY


class Case:
    """A run folder with an adapter over a random base, ready to be exported and verified."""

    def __init__(self, base: Path, folder: Path, prompts: list[str], *more: str) -> None:
        self.base, self.prompts = base, prompts
        self.config: Config = load_config(
            None,
            [
                f"base.model={base}",
                f"run.folder={folder}",
                "base.serve_type=F32",
                "verify.prompts=12",
                "engine.max_tokens=16",
                # random weights write anything and never stop: what is tested here are the other criteria
                "verify.min_parsed=0",
                "verify.min_plain_agreement=0",
                "engine.threads=1",
                *more,
            ],
        )
        self.run = RunFolder(folder)
        make_adapter(base, self.run.file("adapter"), scale=0.1, target_modules=["q_proj", "k_proj", "v_proj"])
        self.manifest = {
            "base": "random",
            "base_sha256": base_hash(base),
            "template_sha256": load_template(None).sha256,
            "dataset_sha256": "0" * 64,
            "train_end": "2024-01-01T00:00:00+00:00",
            "class_prior": [1 / 3] * 3,
            "natural_prior": [0.2, 0.2, 0.6],
            "decision_ids": [1, 2, 3],
            "train": {"quantization": "none"},
        }
        self.run.file("dataset").mkdir()
        self.write_record()
        self.write_rows(prompts[:30], ["HOLD", "BUY", "SELL"] * 10)

    def write_record(self, **more: Any) -> None:
        """What the adapter's folder says of it."""
        self.run.file("adapter", "candletune.json").write_text(json.dumps(self.manifest | more))

    def write_rows(self, prompts: list[str], labels: list[str]) -> None:
        """Held-out rows."""
        pl.DataFrame({"prompt": prompts, "label": labels}).write_parquet(self.run.natural_eval)

    def export(self) -> ExportSummary:
        run_stage(BASE, self.config, self.run, SilentReporter())
        return run_stage(EXPORT, self.config, self.run, SilentReporter()).summary_as(ExportSummary)

    def verify(self) -> tuple[bool, dict[str, bool], dict[str, Any]]:
        summary = run_stage(VERIFY, self.config, self.run, SilentReporter()).summary_as(VerifySummary)
        return (
            summary.passed,
            {criterion.name: criterion.passed for criterion in summary.criteria},
            {criterion.name: criterion.value for criterion in summary.criteria},
        )

    def rewrite(self, change: Callable[[Adapter], Adapter] = lambda adapter: adapter, **manifest: Any) -> None:
        """Put another GGUF in the exported one's place."""
        shape = read_shape(self.base)
        adapter = change(read_adapter(self.run.file("adapter"), shape))
        target = self.run.adapter_gguf
        stated = {key: value for key, value in self.manifest.items() if key != "train"} | manifest
        write_adapter(adapter, shape, target, number_format="F32", manifest=stated, name="x")


ANSWERS = ExportAnswers(
    template_sha256="t" * 64,
    probabilities=np.array([[0.6, 0.2, 0.2], [0.2, 0.6, 0.2]]),
    asked=[0, 1],
    bare=np.full((2, 3), 1 / 3),
    texts=[Generation("DECISION: HOLD - nothing moves.", ended=True, tokens=9)] * 2,
    repeatable=True,
    ids=[[1, 2], [1, 3]],
    quantized=False,
    chat={"before": "<s>[INST]", "after": "[/INST]", "end": "</s>"},
)
TEXT_CRITERIA = {PARSED, ENDED, PLAIN, "empty answers"}


def failures(passed: dict[str, bool]) -> set[str]:
    """What failed, apart from what a random model fails by nature."""
    return {name for name, good in passed.items() if not good} - TEXT_CRITERIA
