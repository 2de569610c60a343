"""Exports broken on purpose are caught, each for the right reason."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from adapters import make_adapter
from candletune.artifacts import Certificate, ExportSummary, VerifySummary
from candletune.base.find import base_hash
from candletune.config import Config, load_config
from candletune.console import SilentReporter
from candletune.engines import Generation
from candletune.engines.certify import ExportAnswers
from candletune.errors import InputError
from candletune.gguf import names
from candletune.gguf.adapter import write_adapter
from candletune.gguf.catalogue import read_catalogue
from candletune.gguf.peft import Adapter, Pair, read_adapter
from candletune.model_shape import read_shape
from candletune.prompts.template import load_template
from candletune.runs import RunFolder
from candletune.stages.export import STAGE as EXPORT
from candletune.stages.runner import run_stage
from candletune.stages.verify import STAGE as VERIFY
from candletune.stages.verify import export_criteria, findings_of

pytestmark = pytest.mark.llamacpp


class Case:
    """A run folder with an adapter over a random base, ready to be exported and verified."""

    def __init__(self, base: Path, folder: Path, prompts: list[str], *more: str) -> None:
        self.base = base
        self.config: Config = load_config(
            None,
            [
                f"base.model={base}",
                f"run.folder={folder}",
                "export.base_type=F32",
                "verify.prompts=12",
                "engine.max_tokens=16",
                # random weights write anything and never stop: what is tested here are the other criteria
                "verify.min_parsed=0",
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
        }
        self.run.file("adapter", "candletune.json").write_text(json.dumps(self.manifest))
        self.run.file("dataset").mkdir()
        pl.DataFrame({"prompt": prompts[:30]}).write_parquet(self.run.file("dataset", "natural_eval.parquet"))

    def export(self) -> ExportSummary:
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
        write_adapter(adapter, shape, target, number_format="F32", manifest=self.manifest | manifest, name="x")


ANSWERS = ExportAnswers(
    template_sha256="t" * 64,
    probabilities=np.array([[0.6, 0.2, 0.2], [0.2, 0.6, 0.2]]),
    bare=np.full((2, 3), 1 / 3),
    texts=[Generation("DECISION: HOLD - nothing moves.", ended=True, tokens=9)] * 2,
    repeatable=True,
    ids=[[1, 2], [1, 3]],
    quantized=False,
    chat={"before": "<s>[INST]", "after": "[/INST]", "end": "</s>"},
)
TEXT_CRITERIA = {"answers that parse", "answers that end themselves", "empty answers"}


def failures(passed: dict[str, bool]) -> set[str]:
    """What failed, apart from what a random model fails by nature."""
    return {name for name, good in passed.items() if not good} - TEXT_CRITERIA


@pytest.fixture
def case(random_base: Path, tmp_path: Path, texts: tuple[list[str], list[str]]) -> Case:
    case = Case(random_base, tmp_path / "run", texts[0])
    case.export()
    return case


def test_a_right_export_holds(case: Case) -> None:
    _, passed, values = case.verify()
    assert failures(passed) == set()
    assert values["largest probability gap"] < 1e-3
    assert values["prompt ids as in training"] == 1.0


def test_no_permutation(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("candletune.gguf.adapter.in_gguf_layout", lambda _name, matrix, _shape: matrix)
    case.rewrite()
    _, passed, _ = case.verify()
    assert "largest probability gap" in failures(passed)


def test_wrong_alpha(case: Case) -> None:
    case.rewrite(lambda adapter: Adapter(adapter.rank, adapter.scale * 4, adapter.pairs))
    _, passed, _ = case.verify()
    assert "largest probability gap" in failures(passed)


def test_empty_adapter(case: Case) -> None:
    zeroed = lambda adapter: Adapter(  # noqa: E731
        adapter.rank, adapter.scale, tuple(Pair(p.module, p.a, np.zeros_like(p.b)) for p in adapter.pairs)
    )
    case.rewrite(zeroed)
    _, passed, _ = case.verify()
    assert "differs from the bare base" in failures(passed)


def test_one_class_is_a_finding_and_no_fault(case: Case) -> None:
    """Whoever asks for three classes of a model that uses fewer gets an explanation, and a certificate that holds."""
    strict = {"min_classes": 3, "min_difference": 0.9}
    case.config = case.config.model_copy(update={"verify": case.config.verify.model_copy(update=strict)})
    _, passed, _ = case.verify()
    certificate = Certificate.read(case.run.certificate)
    assert failures(passed) == set()
    assert certificate.shares is not None and sum(share > 0 for share in certificate.shares.values()) < 3
    used, change = certificate.findings
    assert used.name == "classes used" and used.value < 3
    assert "to every held-out prompt" in used.explanation
    assert change.name == "mean change against the bare base" and 0 < change.value < 0.9
    assert "finding: classes used" in case.run.summary(VerifySummary).headline


def test_a_model_of_one_class_passes_the_pipeline(case: Case) -> None:
    """What stopped a run on real candles: the only oddity is that the model always says the same."""
    one = replace(ANSWERS, probabilities=np.tile([0.1, 0.2, 0.7], (2, 1)), bare=np.tile([0.3, 0.3, 0.4], (2, 1)))
    assert all(criterion.passed for criterion in export_criteria(one, case.config.verify, "t" * 64)[4:])
    (finding,) = findings_of(one, case.config.verify)
    assert finding.value == 1 and "the model answers HOLD to every held-out prompt" in finding.explanation


def test_numbers_that_are_none_fail_in_words() -> None:
    broken = replace(ANSWERS, probabilities=np.full((2, 3), np.nan))
    named = {criterion.name: criterion for criterion in export_criteria(broken, load_config(None).verify, "t" * 64)}
    assert named["differs from the bare base"].value == "not a number"
    assert not named["differs from the bare base"].passed


def test_adapter_of_another_base(case: Case) -> None:
    case.rewrite(base_sha256="f" * 64)
    good, _, values = case.verify()
    assert not good
    assert "trained on base ffffffff" in values["loads"]


def test_template_of_another_hash(case: Case) -> None:
    case.rewrite(template_sha256="f" * 64)
    _, passed, _ = case.verify()
    assert failures(passed) == {"template hash"}


def test_truncated_file(case: Case) -> None:
    path = case.run.adapter_gguf
    path.write_bytes(path.read_bytes()[:-100])
    good, _, values = case.verify()
    assert not good
    assert "cut short" in values["loads"]


def test_base_of_another_shape(case: Case, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    config = json.loads((case.base / "config.json").read_text()) | {"num_attention_heads": 8}
    for file in case.base.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    (other / "config.json").write_text(json.dumps(config))
    case.config = case.config.model_copy(
        update={
            "base": case.config.base.model_copy(
                update={"model": str(other), "gguf": case.run.file("gguf", "base.gguf")}
            )
        }
    )
    with pytest.raises(InputError, match="trained on another base model"):
        case.export()


def test_too_few_held_out_prompts(case: Case) -> None:
    case.config = case.config.model_copy(update={"verify": case.config.verify.model_copy(update={"prompts": 50})})
    _, passed, values = case.verify()
    assert "held-out prompts" in failures(passed)
    assert values["held-out prompts"] == 30.0


def test_versions_stay(case: Case) -> None:
    first = case.run.adapter_gguf
    before = first.read_bytes()
    make_adapter(case.base, case.run.file("adapter"), seed=77, scale=0.1)
    summary = case.export()
    kept = [path for path in case.run.file("gguf").glob("custom-trading-lora-*.gguf")]
    assert [path.read_bytes() for path in kept] == [before]
    assert [entry.file for entry in read_catalogue(case.run.file("gguf"))] == [
        kept[0].name,
        case.run.adapter_gguf.name,
    ]
    assert read_catalogue(case.run.file("gguf"))[-1].sha256 == summary.sha256


@pytest.mark.parametrize("settings", [{}, {"use_dora": True}], ids=["lora", "dora by fallback"])
def test_merged_models_answer_as_the_adapter(
    settings: dict[str, Any], random_base: Path, tmp_path: Path, texts: tuple[list[str], list[str]]
) -> None:
    kind = ["export.fallback=true"] if settings else ["export.kind=merged"]
    case = Case(random_base, tmp_path / "run", texts[0], "export.quantize=F32", *kind)
    if settings:
        make_adapter(random_base, case.run.file("adapter"), scale=0.1, **settings)
    assert case.export().merged
    assert case.run.merged_gguf.exists()
    _, passed, values = case.verify()
    assert failures(passed) == set()
    assert values["largest probability gap"] < 1e-3


def test_quantized_merge_is_smaller_and_close(
    random_base: Path, tmp_path: Path, texts: tuple[list[str], list[str]]
) -> None:
    case = Case(random_base, tmp_path / "run", texts[0], "export.kind=merged")
    case.export()
    size = case.run.merged_gguf.stat().st_size
    assert size < 0.35 * case.run.file("gguf", "base.gguf").stat().st_size
    _, passed, values = case.verify()
    # Random weights decide by hairs, which 4 bits turn over; a trained model's decisions are verified by the stage.
    assert failures(passed) <= {"decisions as Transformers"}
    assert 1e-4 < values["largest probability gap"] < 0.25


def test_dora_without_fallback_is_refused_before_writing(
    random_base: Path, tmp_path: Path, texts: tuple[list[str], list[str]]
) -> None:
    case = Case(random_base, tmp_path / "run", texts[0])
    make_adapter(random_base, case.run.file("adapter"), use_dora=True)
    with pytest.raises(InputError, match="DoRA"):
        case.export()
    assert not case.run.adapter_gguf.exists()


def test_permutation_interleaves_halves() -> None:
    """Two heads of four rows: halves (a b | c d) become a c b d."""
    rows = np.arange(8.0)[:, None]
    assert names.permute_rows(rows, 2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
