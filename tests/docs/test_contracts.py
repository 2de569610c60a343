"""docs/contracts.md names the keys that are written: all of a row's, an answer's or a verdict's, and no other."""

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from candletune.artifacts import (
    AdapterRecord,
    Certificate,
    CertificateCriterion,
    CertificateFinding,
    DatasetManifest,
    DecisionScores,
    Fidelity,
    JournalImport,
    JudgedModel,
    LiveState,
    ModelManifest,
    RunManifest,
    ServedModel,
    StageEntry,
    StateChange,
    TrainingEnds,
    TrySpent,
    Verdict,
    VerdictCriterion,
)
from candletune.artifacts.ledger import SaidLine, TryLine
from candletune.decide.predictor import Answer
from candletune.evaluation.review.reviews import QUALITIES, Review
from candletune.fields.registry import KEY_NAMES
from candletune.journal.rows import STATUSES, Row, Side
from candletune.runs import RunFolder

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "contracts.md").read_text(encoding="utf-8")
TIME = datetime(2025, 1, 1, tzinfo=UTC)
ROW = json.loads(Row(TIME, "BTC", 1.0, "p", "t", "b", Side("skipped"), Side("skipped")).line())
REVIEW = Review("item", "me").record()


def section(term: str) -> str:
    """What the page says of a term."""
    return PAGE.partition(f"\n{term}\n:   ")[2].partition("\n:   ")[0]


def words(term: str) -> set[str]:
    """What it has as code."""
    return set(re.findall(r"`([^`]+)`", section(term)))


@pytest.mark.parametrize(
    ("term", "keys"),
    [
        ("Journal", {*ROW, *ROW["active"], *STATUSES}),
        ("Signal", {*KEY_NAMES, *Answer.__annotations__, "_lora_override"}),
        ("Verdict", {*Verdict.model_fields, *VerdictCriterion.model_fields, *JudgedModel.model_fields}),
        ("Verdict", {*TrySpent.model_fields, *TrainingEnds.model_fields}),
        ("Ledger", {*TryLine.model_fields, *SaidLine.model_fields}),
        ("Certificate", {*Certificate.model_fields}),
        ("Certificate", {*CertificateCriterion.model_fields, *CertificateFinding.model_fields}),
        ("Certificate", {*Fidelity.model_fields, *DecisionScores.model_fields}),
        ("Live state", {*LiveState.model_fields, *ServedModel.model_fields, *StateChange.model_fields}),
        ("Run manifest", {*RunManifest.model_fields, *StageEntry.model_fields}),
        ("Adapter", {*AdapterRecord.model_fields, *ModelManifest.model_fields}),
        ("Reviews", {*REVIEW, *QUALITIES}),
    ],
)
def test_every_key_is_named(term: str, keys: Iterable[str]) -> None:
    assert set(keys) <= words(term), set(keys) - words(term)


@pytest.mark.parametrize(
    ("term", "known"),
    [
        ("Journal", {*ROW, *ROW["active"], *STATUSES, "replay", "ab_test_log.jsonl"}),
        ("Live state", {*LiveState.model_fields, *ServedModel.model_fields, *StateChange.model_fields}),
        ("Run manifest", {*RunManifest.model_fields, *StageEntry.model_fields}),
        ("Imported journal", {*JournalImport.model_fields}),
    ],
)
def test_no_other_key_is_named(term: str, known: set[str]) -> None:
    keys = {word for word in words(term) if re.fullmatch(r"[a-z_]+", word)}
    assert keys - known <= {"adapter", "merged", "base", "from", "to"}


def test_the_datasets_keys_exist() -> None:
    named = {word for word in words("Dataset out") if re.fullmatch(r"[a-z]+(_[a-z0-9]+)+", word)}
    assert len(named & DatasetManifest.model_fields.keys()) >= 8
    assert named - DatasetManifest.model_fields.keys() == {"decision_time", "forward_return"}


def test_named_files_are_those_of_the_run_folder() -> None:
    run = RunFolder(Path("run"))
    files = {path.relative_to(run.path).as_posix() for path in vars(run).values() if isinstance(path, Path)}
    named = set(re.findall(r"`((?:dataset|gguf|verify|evaluation|replay|report)/[\w.-]+)`", PAGE))
    assert len(named) >= 8
    assert named <= files


def test_schemas_are_there_and_all_are_named() -> None:
    linked = set(re.findall(r"\(schemas/(\w+\.schema\.json)\)", PAGE))
    present = {path.name for path in (DOCS / "schemas").glob("*.json")}
    assert linked <= present
    assert present - linked <= {"dataset_audit.schema.json"}


@pytest.mark.parametrize(("artifact", "term"), [(LiveState, "Live state")])
def test_versions_are_those_of_the_code(artifact: type[LiveState], term: str) -> None:
    assert f"version {artifact.VERSION}" in section(term)
