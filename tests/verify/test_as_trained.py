"""The certificate compares with the model exactly as trained: over the weights, in the storage, that training read."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from candletune.artifacts import Certificate, CertificateCriterion, Fidelity
from candletune.artifacts import VerifySummary as Summary
from candletune.calibration import Calibration
from candletune.config import load_config
from candletune.console import SilentReporter
from candletune.decide.models import model_at
from candletune.decide.predictor import Predictor
from candletune.decisions import DECISIONS
from candletune.engines.certify import TrainedAnswers, ask_export, ask_trained
from candletune.errors import InputError, UsageError
from candletune.hashes import sha256_path
from candletune.stages.fidelity import accuracy_lost, compare
from candletune.stages.verify import (
    ACCURACY_LOST,
    LARGEST_GAP,
    LOG_LOSS_GAINED,
    PLAIN,
    SAME_DECISIONS,
    export_criteria,
    findings_of,
    remedy_of,
    rows_wanted,
    trained_criteria,
)
from export_case import ANSWERS, Case, failures

LIMITS = load_config(None).verify
Texts = tuple[list[str], list[str]]


@pytest.fixture
def case(random_base: Path, tmp_path: Path, texts: Texts) -> Case:
    case = Case(random_base, tmp_path / "run", texts[0])
    case.export()
    return case


def labels_as_trained(case: Case) -> list[str]:
    """Labels that the model as trained gets right on every row."""
    rows = case.prompts[:30]
    trained = ask_trained(case.config, case.run.adapter, rows, SilentReporter())
    return [DECISIONS[number] for number in trained.probabilities.argmax(axis=1)]


@pytest.mark.llamacpp
def test_trained_over_nf4_and_served_over_other_weights_fails_with_the_remedy(case: Case) -> None:
    """The file is a true export, and the float model's equal; but nobody trained the float model."""
    case.write_record(train={"quantization": "nf4"})
    case.write_rows(case.prompts[:30], labels_as_trained(case))
    _, passed, values = case.verify()
    assert {SAME_DECISIONS, ACCURACY_LOST} <= failures(passed)
    certificate = Certificate.read(case.run.certificate)
    known = certificate.fidelity
    assert known is not None
    assert (known.storage, known.rows, known.trained.balanced_accuracy) == ("nf4", 30, 1.0)
    assert known.served.balanced_accuracy == pytest.approx(1.0 - known.accuracy_lost)
    assert known.interval[0] < known.accuracy_lost < known.interval[1]
    assert known.agreement < 0.98 and values[SAME_DECISIONS] == pytest.approx(known.agreement, abs=1e-6)
    for word in ("NF4", "base.gguf", "train.quantization=auto", "F16"):
        assert word in certificate.remedy
    case.write_record(train={"quantization": "none"})
    case.write_rows(case.prompts[:30], labels_as_trained(case))
    _, passed, _ = case.verify()
    assert failures(passed) == set(), "as the same adapter holds over the weights that are served"
    assert Certificate.read(case.run.certificate).fidelity.agreement == 1.0  # type: ignore[union-attr]


@pytest.mark.llamacpp
def test_the_blocks_that_were_trained_over_must_be_those_that_are_served(case: Case) -> None:
    """The same model in another GGUF is another rounding; what was trained over it cannot be asked any more."""
    rows, adapter = case.prompts[:3], case.run.adapter
    case.write_record(storage="gguf", base_gguf_sha256=sha256_path(case.run.base_gguf))
    found = ask_trained(case.config, adapter, rows, SilentReporter())
    assert (found.storage, found.probabilities.shape) == ("gguf", (3, 3))
    case.write_record(storage="gguf", base_gguf_sha256="e" * 64)
    with pytest.raises(InputError, match=r"trained over random \(eeeeeeee\), but .*base\.gguf is .*base\.serve_type"):
        ask_trained(case.config, adapter, rows, SilentReporter())


@pytest.mark.llamacpp
def test_what_is_judged_is_what_the_replay_decides(case: Case) -> None:
    """The decision that plain answers are compared with is the one that `Predictor` gives to replay and live."""
    rows, asked = case.prompts[:6], [0, 3, 5]
    run, config = case.run, case.config
    answers = ask_export(run.adapter_gguf, run.base_gguf, config, rows, SilentReporter(), asked=asked, merged=False)
    predictor = Predictor(config, run)
    predictions = predictor.predict(model_at(run.adapter_gguf), rows, reasons=())
    predictor.close()
    judged = [DECISIONS[number] for number in answers.probabilities.argmax(axis=1)]
    assert [prediction.action for prediction in predictions] == judged
    assert np.array_equal(answers.judged, answers.probabilities[asked])


@pytest.mark.llamacpp
def test_only_a_part_of_the_rows_is_answered_in_text(case: Case) -> None:
    case.verify()
    certificate = Certificate.read(case.run.certificate)
    plain = next(criterion for criterion in certificate.criteria if criterion.name == PLAIN)
    assert certificate.prompts == 30
    assert "of 12 prompts" in plain.limit


@pytest.mark.llamacpp
def test_another_base_than_in_training_is_no_reference(case: Case) -> None:
    case.write_record(base_sha256="f" * 64)
    with pytest.raises(InputError, match=r"trained over random \(ffffffff\), but .* is .*set base\.model"):
        ask_trained(case.config, case.run.adapter, case.prompts[:1], SilentReporter())


def test_a_plain_answer_that_is_not_the_judged_decision_fails() -> None:
    """Judged BUY and SELL from the logits; a drop-in reads HOLD twice."""
    named = {criterion.name: criterion for criterion in export_criteria(ANSWERS, LIMITS, "t" * 64)}
    assert (named[PLAIN].value, named[PLAIN].passed) == (0.0, False)
    assert all(criterion.passed for name, criterion in named.items() if name != PLAIN)
    for right in ([0.1, 0.2, 0.7], [0.5002, 0.0, 0.4998]):
        same = replace(ANSWERS, probabilities=np.tile(right, (2, 1)))
        assert all(criterion.passed for criterion in export_criteria(same, LIMITS, "t" * 64)), "said, or tied with it"
    near = replace(ANSWERS, probabilities=np.tile([0.52, 0.0, 0.48], (2, 1)))
    assert not all(criterion.passed for criterion in export_criteria(near, LIMITS, "t" * 64))


def surely(decisions: str) -> np.ndarray:
    """Probabilities of a model that says B, S or H with 0.8."""
    return np.where(np.eye(3)[["BSH".index(letter) for letter in decisions]] == 1, 0.8, 0.1)


def fidelity_of(trained: str, served: str, labels: str) -> Fidelity:
    found = compare(surely(trained), surely(served), ["BSH".index(letter) for letter in labels], "gguf")
    assert found is not None
    return found


def test_scores_as_trained_and_as_served() -> None:
    """Four BUY rows of which serving loses one, two SELL rows of which it gains one, four HOLD rows kept."""
    known = fidelity_of("BBBBSBHHHH", "BBBSSSHHHH", "BBBBSSHHHH")
    assert known.trained.balanced_accuracy == pytest.approx((1 + 0.5 + 1) / 3)
    assert known.served.balanced_accuracy == pytest.approx((0.75 + 1 + 1) / 3)
    assert known.accuracy_lost == pytest.approx((0.25 - 0.5) / 3)
    assert (known.rows, known.agreement) == (10, 0.8)
    assert known.largest_gap == pytest.approx(0.7)
    assert known.trained.log_loss == pytest.approx(-(9 * np.log(0.8) + np.log(0.1)) / 10)
    # Agresti and Min for each class: (b + c + 1 - (b - c)^2 / (n + 2)) / (n + 2)^2.
    error = np.sqrt((2 - 1 / 6) / 36 + (2 - 1 / 4) / 16 + 1 / 36) / 3
    low, high = known.interval
    assert low == pytest.approx(known.accuracy_lost - 1.96 * error, rel=1e-3)
    assert high == pytest.approx(known.accuracy_lost + 1.96 * error, rel=1e-3)


def test_the_log_loss_is_that_of_calibrated_probabilities() -> None:
    """Odds that training put into the decision are taken back; the decision and its score stay."""
    labels = [0, 1, 2, 2]
    skewed = np.array([[0.2, 0.1, 0.7], [0.1, 0.2, 0.7], [0.05, 0.05, 0.9], [0.05, 0.05, 0.9]])
    undone = Calibration(offsets=(1.5, 1.5, 0.0))
    plain = compare(skewed, skewed, labels, "gguf")
    known = compare(skewed, skewed, labels, "gguf", undone)
    assert plain is not None and known is not None
    assert known.trained.balanced_accuracy == plain.trained.balanced_accuracy == pytest.approx(1 / 3)
    odds = undone.apply(skewed)[range(4), labels]
    assert known.served.log_loss == pytest.approx(-np.log(odds).mean())
    assert known.served.log_loss < plain.served.log_loss


def test_a_class_without_rows_counts_for_nothing_and_no_row_is_no_comparison() -> None:
    known = fidelity_of("BBS", "BBH", "BBS")
    assert known.accuracy_lost == pytest.approx(0.5)
    assert compare(surely(""), surely(""), [], "gguf") is None
    assert compare(surely("B"), np.full((1, 3), np.nan), [0], "gguf") is None


def test_the_interval_covers_the_loss_as_often_as_it_says() -> None:
    """True loss 1 point: each class turns 4 % of the right answers wrong and 3 % the other way."""
    rng = np.random.default_rng(3)
    labels = np.repeat([0, 1, 2], [80, 80, 340])
    covered = 0
    for _ in range(1000):
        draw = rng.random(len(labels))
        trained = np.where(draw < 0.04, True, np.where(draw < 0.07, False, rng.random(len(labels)) < 0.6))
        served = np.where(draw < 0.04, False, np.where(draw < 0.07, True, trained))
        lost, error = accuracy_lost(trained, served, labels)
        covered += abs(lost - 0.01) < 1.96 * error
    assert 0.93 < covered / 1000 < 0.99


def criteria_of(known: Fidelity | None, rows: int) -> dict[str, bool]:
    told = np.full((rows, 3), 1 / 3 if known else np.nan)
    answers = replace(ANSWERS, ids=[[1]] * rows, probabilities=told)
    trained = TrainedAnswers(told, [[1]] * rows, "gguf")
    return {one.name: one.passed for one in trained_criteria(answers, trained, known, LIMITS)}


def test_few_rows_never_make_a_loss_pass() -> None:
    """One of six BUY rows is a loss of 5.6 points, whatever the interval says; and no loss is said to prove little."""
    lost = fidelity_of("BBBBBBSH", "BBBBBSSH", "BBBBBBSH")
    assert lost.interval[0] < 0 < LIMITS.max_accuracy_loss < lost.accuracy_lost
    assert not criteria_of(lost, 8)[ACCURACY_LOST]
    kept = fidelity_of("BSH" * 8, "BSH" * 8, "BSH" * 8)
    assert all(criteria_of(kept, 24).values())
    assert [finding.name for finding in findings_of(ANSWERS, LIMITS, kept)] == ["rows compared"]
    many = fidelity_of("BSH" * 160, "BSH" * 160, "BSH" * 160)
    assert findings_of(ANSWERS, LIMITS, many) == ()


def test_numbers_that_are_none_fail_every_comparison() -> None:
    failed = {name for name, passed in criteria_of(None, 2).items() if not passed}
    assert failed == {SAME_DECISIONS, ACCURACY_LOST, LOG_LOSS_GAINED, LARGEST_GAP}


@pytest.mark.parametrize("value", ["float", "nf4"])
def test_the_references_of_before_are_refused_with_the_new_one(value: str) -> None:
    with pytest.raises(UsageError, match=rf"verify\.reference: .*{value} is no longer a choice; use trained"):
        load_config(None, [f"verify.reference={value}"])


def test_how_many_rows_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some hundreds, fewer where a CPU would take an hour; what is set, but no fewer than are answered in text."""
    base = tmp_path / "base.gguf"
    with base.open("wb") as file:
        file.truncate(2**27)
    config = load_config(None)
    monkeypatch.setattr("llama_cpp.llama_supports_gpu_offload", lambda: False)
    assert rows_wanted(config, tmp_path / "tiny.gguf") == 500
    assert rows_wanted(config, base) == 200
    assert rows_wanted(load_config(None, ["verify.rows=900"]), base) == 900
    assert rows_wanted(load_config(None, ["verify.rows=5"]), base) == 50
    assert rows_wanted(load_config(None, ["verify.reference=none"]), base) == 50
    monkeypatch.setattr("llama_cpp.llama_supports_gpu_offload", lambda: True)
    assert rows_wanted(config, base) == 500
    assert rows_wanted(load_config(None, ["engine.gpu_layers=0"]), base) == 200


def test_a_certificate_of_before_is_read(tmp_path: Path) -> None:
    """As an earlier candletune wrote it: no version, no comparison, no remedy."""
    criterion = {"name": "decisions as Transformers", "value": 0.98, "limit": "at least 0.95", "passed": True}
    content = {"passed": True, "file": "gguf/a.gguf", "base": "base.gguf", "prompts": 50, "criteria": [criterion]}
    (tmp_path / "verify.json").write_text(json.dumps(content))
    read = Certificate.read(tmp_path / "verify.json")
    assert (read.fidelity, read.remedy, read.findings) == (None, "", ())
    assert read.criteria[0].shown == "0.98"
    Summary(**dict(read))


@pytest.mark.parametrize(
    ("kind", "storage", "failed", "advice"),
    [
        ("adapter", "nf4", {SAME_DECISIONS}, "train.quantization=auto"),
        ("adapter", "nf4", {ACCURACY_LOST, LOG_LOSS_GAINED}, "trained over NF4 weights and is served over base.gguf"),
        ("merged", "nf4", {SAME_DECISIONS}, "train.quantization=auto"),
        ("merged", "none", {SAME_DECISIONS}, "export.quantize"),
        ("merged", "none", {LARGEST_GAP}, "export.quantize"),
        ("adapter", "gguf", {SAME_DECISIONS}, "export again"),
        ("adapter", "nf4", {"template hash", SAME_DECISIONS}, "export again"),
        ("adapter", "gguf", {LARGEST_GAP}, "base.serve_type=F16"),
        ("adapter", "gguf", {"answers that parse", PLAIN}, "train more steps"),
        ("adapter", None, {"loads"}, "export again"),
    ],
)
def test_the_remedy_is_that_of_what_failed(kind: str, storage: str | None, failed: set[str], advice: str) -> None:
    chosen = [named(name, passed=False) for name in failed]
    kept = [named("empty answers", passed=True)]
    config = load_config(None, [f"export.kind={kind}"])
    assert advice in remedy_of(config, [*kept, *chosen], "base.gguf", storage)
    assert remedy_of(config, kept, "base.gguf", storage) == ""


def named(name: str, *, passed: bool) -> CertificateCriterion:
    return CertificateCriterion(name=name, value=0.8, limit="at least 0.95", passed=passed)
