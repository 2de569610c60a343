"""How a run was made, from its manifest."""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from candletune import __version__
from candletune.artifacts import AttainableScores, DatasetManifest
from candletune.config import Config
from candletune.dataset.card import DatasetCard, dataset_card
from candletune.dataset.files import read_examples
from candletune.errors import InputError
from candletune.files import read_json
from candletune.report.text import moment
from candletune.runs import RunFolder


@dataclass(frozen=True, slots=True)
class FinishedStage:
    """A stage as the page lists it."""

    name: str
    headline: str
    seconds: float
    finished: str


@dataclass(frozen=True, slots=True)
class Provenance:
    """Everything in the run.

    Attributes:
        version: candletune's.
        training: the training in a line; empty where it has not run.
        stages: in the order in which they finished first.
        versions: package -> version.
        hashes: input or output -> SHA-256.
        settings: stage -> its settings.
    """

    version: str
    training: str
    stages: tuple[FinishedStage, ...]
    versions: Mapping[str, str]
    hashes: Mapping[str, str]
    settings: Mapping[str, Mapping[str, JsonValue]]


def provenance(run: RunFolder) -> Provenance:
    """Stages, hashes, settings and versions, from the run's manifest."""
    stages = run.manifest().stages
    versions: dict[str, str] = {}
    hashes: dict[str, str] = {}
    for entry in stages.values():
        versions |= entry.versions
        hashes |= {**entry.inputs, **entry.outputs}
    training = stages.get("train")
    return Provenance(
        version=__version__,
        training="" if training is None else training.headline,
        stages=tuple(
            FinishedStage(name, entry.headline, entry.seconds, moment(entry.finished)) for name, entry in stages.items()
        ),
        versions=dict(sorted(versions.items())),
        hashes=dict(sorted(hashes.items())),
        settings={name: entry.settings for name, entry in stages.items()},
    )


def attainable_scores(run: RunFolder) -> AttainableScores | None:
    """What nobody can beat on the simulated market; None where it was not worked out."""
    return AttainableScores.model_validate(read_json(run.attainable)) if run.attainable.exists() else None


def card_of(dataset: DatasetManifest | None, config: Config, run: RunFolder) -> DatasetCard | None:
    """The dataset card's content; None where its files are gone or were changed by hand: no number here needs them."""
    if dataset is None:
        return None
    try:
        return dataset_card(dataset, dataset.audit, read_examples(run), config)
    except InputError:
        return None
