"""Artefacts are read whole or refused in one line, and their schemas in the docs are current."""

import json
import runpy
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from candletune.artifacts import Artifact, Metrics, Record
from candletune.artifacts.index import ARTIFACTS
from candletune.artifacts.metrics import Comparison
from candletune.errors import InputError

WRITE = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "schemas" / "write.py"))


class Part(Record):
    """A nested part."""

    share: float


class Sample(Artifact):
    """A file of version 2, whose version 1 called `name` `label`."""

    VERSION: ClassVar[int] = 2
    COMMAND: ClassVar[str] = "evaluate"

    name: str
    part: Part

    @classmethod
    def upgrade(cls, value: dict[str, Any], version: int) -> dict[str, Any]:
        """Version 1's key."""
        return {"name": value.get("label"), "part": value.get("part")}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    sample = Sample(name="a", part=Part(share=0.5))
    sample.write(tmp_path / "sample.json")
    assert json.loads((tmp_path / "sample.json").read_text()) == {"version": 2, "name": "a", "part": {"share": 0.5}}
    assert Sample.read(tmp_path / "sample.json") == sample
    assert Sample.read_if_there(tmp_path / "none.json") is None


def test_frozen_and_without_unknown_keys_or_nan() -> None:
    sample = Sample(name="a", part=Part(share=0.5))
    with pytest.raises(ValidationError, match="frozen"):
        sample.name = "b"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="extra"):
        Sample(name="a", part=Part(share=0.5), more=1)  # type: ignore[call-arg]
    with pytest.raises(ValidationError, match="finite"):
        Part(share=float("nan"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"version": 2, "name": "a", "part": {"share": 0.5, "new": 1}, "later": 3}', None),
        ('{"label": "a", "part": {"share": 0.5}}', None),  # version 1, from before versions were written
        ('{"version": 3}', "version 3, expected at most 2; run `candletune evaluate` again"),
        ('{"version": true}', "version True"),
        ('{"version": 2, "name": "a"}', "part: Field required; run `candletune evaluate` again"),
        ('{"version": 2, "name": "a", "part": {"share": "much"}}', r"part\.share: Input should be a valid number"),
        ("[]", "expected a JSON object"),
        ("{", "not valid JSON"),
    ],
)
def test_other_content_is_one_line(content: str, words: str | None, tmp_path: Path) -> None:
    path = tmp_path / "sample.json"
    path.write_text(content)
    if words is None:
        assert Sample.read(path) == Sample(name="a", part=Part(share=0.5))
        return
    with pytest.raises(InputError, match=words) as caught:
        Sample.read(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_first_metrics_are_upgraded() -> None:
    found = Metrics.upgrade({"controls": {"shadow": {"as_good": 0.1, "shifts": 3}, "active": None}}, 1)
    assert found["controls"] == {"shadow": {"p_value": 0.1, "shifts": 3}, "active": None}


def test_a_comparison_of_version_2_is_read_and_says_what_it_does_not_know(tmp_path: Path) -> None:
    interval = {"value": 0.1, "low": 0.0, "high": 0.2}
    comparison = {
        **{name: interval for name in ("accuracy_signals", "sequential", "signed_return")},
        **{"sides": {}, "standard_error": 0.05, "effective": 60.0, "overlap": 11, "block": 24.0, "days": 30.0},
        **{"days_needed": None, "agreement": 0.5, "coverage": 1.0, "windows": 60.0},
    }
    found = Metrics.upgrade({"controls": {}, "comparison": comparison}, 2)["comparison"]
    read = Comparison.model_validate(found)
    assert read.accuracy_signals.value == 0.1
    assert (read.beyond_chance.value, read.net_return.low, read.months, read.alpha) == (None, None, None, None)
    assert (read.against, read.drawdown) == ("incumbent", {})


@pytest.mark.parametrize("artifact", ARTIFACTS, ids=lambda kind: kind.__name__)
def test_schemas_in_the_docs_are_current(artifact: type[Artifact]) -> None:
    path = WRITE["schema_path"](artifact)
    assert path.read_text(encoding="utf-8") == WRITE["schema_text"](artifact), "run python docs/schemas/write.py"


def test_no_schema_is_left_over() -> None:
    folder = Path(__file__).parents[2] / "docs" / "schemas"
    assert set(folder.glob("*.json")) == {WRITE["schema_path"](artifact) for artifact in ARTIFACTS}
