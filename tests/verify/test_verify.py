"""Exports broken on purpose are caught, each for the right reason."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters import make_adapter
from candletune.artifacts import Certificate, VerifySummary
from candletune.config import load_config
from candletune.errors import InputError
from candletune.gguf import names
from candletune.gguf.catalogue import read_catalogue
from candletune.gguf.peft import Adapter, Pair
from candletune.stages.verify import LARGEST_GAP, SAME_DECISIONS, export_criteria, findings_of
from export_case import ANSWERS, Case, failures

pytestmark = pytest.mark.llamacpp


@pytest.fixture
def case(random_base: Path, tmp_path: Path, texts: tuple[list[str], list[str]]) -> Case:
    case = Case(random_base, tmp_path / "run", texts[0])
    case.export()
    return case


def test_a_right_export_holds(case: Case) -> None:
    _, passed, values = case.verify()
    assert failures(passed) == set()
    assert values[LARGEST_GAP] < 1e-3
    assert values["prompt ids as in training"] == 1.0


def test_no_permutation(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("candletune.gguf.adapter.in_gguf_layout", lambda _name, matrix, _shape: matrix)
    case.rewrite()
    _, passed, _ = case.verify()
    assert LARGEST_GAP in failures(passed)


def test_wrong_alpha(case: Case) -> None:
    case.rewrite(lambda adapter: Adapter(adapter.rank, adapter.scale * 4, adapter.pairs))
    _, passed, _ = case.verify()
    assert LARGEST_GAP in failures(passed)


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
    used, change, rows = certificate.findings
    assert (rows.name, rows.value) == ("rows compared", 30)
    assert used.name == "classes used" and used.value < 3
    assert "to every held-out prompt" in used.explanation
    assert change.name == "mean change against the bare base" and 0 < change.value < 0.9
    assert "finding: classes used" in case.run.summary(VerifySummary).headline


def test_a_model_of_one_class_passes_the_pipeline(case: Case) -> None:
    """What stopped a run on real candles: the only oddity is that the model always says the same."""
    one = replace(ANSWERS, probabilities=np.tile([0.1, 0.2, 0.7], (2, 1)), bare=np.tile([0.3, 0.3, 0.4], (2, 1)))
    assert all(criterion.passed for criterion in export_criteria(one, load_config(None).verify, "t" * 64))
    (finding,) = findings_of(one, case.config.verify, None)
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
            ),
            "train": case.config.train.model_copy(update={"quantization": "nf4"}),
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
    # DoRA takes the norms of whole matrices, which only a base in numbers has.
    kind = ["export.fallback=true", "train.quantization=none"] if settings else ["export.kind=merged"]
    case = Case(random_base, tmp_path / "run", texts[0], "export.quantize=F32", *kind)
    if settings:
        make_adapter(random_base, case.run.file("adapter"), scale=0.1, **settings)
    assert case.export().merged
    assert case.run.merged_gguf.exists()
    _, passed, values = case.verify()
    assert failures(passed) == set()
    assert values[LARGEST_GAP] < 1e-3


def test_quantized_merge_is_smaller_and_close(
    random_base: Path, tmp_path: Path, texts: tuple[list[str], list[str]]
) -> None:
    case = Case(random_base, tmp_path / "run", texts[0], "export.kind=merged")
    case.export()
    size = case.run.merged_gguf.stat().st_size
    assert size < 0.35 * case.run.file("gguf", "base.gguf").stat().st_size
    _, passed, values = case.verify()
    # Random weights decide by hairs, which 4 bits turn over; a trained model's decisions are verified by the stage.
    assert failures(passed) <= {SAME_DECISIONS}
    assert 1e-4 < values[LARGEST_GAP] < 0.25


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
