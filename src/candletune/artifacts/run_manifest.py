"""`manifest.json` of a run folder: what each finished stage was made from, wrote and said."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, TypeVar

from pydantic import JsonValue, ValidationError

from candletune.artifacts.base import Artifact, Record
from candletune.artifacts.summaries import StageSummary
from candletune.errors import InputError

Summary = TypeVar("Summary", bound=StageSummary)


class StageEntry(Record):
    """A finished stage.

    Attributes:
        fingerprint: of everything its result depends on.
        inputs: name -> hash of what it read.
        settings: configuration table -> its values, and the seed.
        outputs: path in the run folder -> hash of what it wrote.
        summary: what it said; `summary_as` gives it its type.
        seconds: of wall time.
        finished: ISO 8601 in UTC.
        versions: package -> version.
    """

    fingerprint: str
    inputs: Mapping[str, str]
    settings: Mapping[str, JsonValue]
    outputs: Mapping[str, str]
    summary: Mapping[str, JsonValue]
    seconds: float
    finished: str
    versions: Mapping[str, str]

    @property
    def headline(self) -> str:
        """The summary's line for people; empty when it has none."""
        return str(self.summary.get("headline", ""))

    def summary_as(self, kind: type[Summary], source: Path) -> Summary:
        """The summary; keys that this version does not know are left out.

        Args:
            kind: the stage's summary.
            source: the manifest, for the error.

        Raises:
            InputError: it lacks what the stage says.
        """
        try:
            return kind.model_validate(self.summary, extra="ignore")
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in ("summary", *first["loc"]))
            remedy = f"run `candletune {kind.STAGE} --force`" if kind.STAGE else "run the stage with --force"
            raise InputError(f"{source}: {kind.STAGE or 'stage'}: {key}: {first['msg']}; {remedy}") from None


class RunManifest(Artifact):
    """The manifest.

    Attributes:
        stages: name -> the finished stage, in the order in which they finished first.
    """

    COMMAND: ClassVar[str] = "run"
    REMEDY: ClassVar[str] = "use a new run.folder"

    stages: Mapping[str, StageEntry]

    def with_stage(self, name: str, entry: StageEntry) -> "RunManifest":
        """The same with one stage's entry added or replaced."""
        return RunManifest(stages={**self.stages, name: entry})
