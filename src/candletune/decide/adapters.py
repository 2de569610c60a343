"""What an adapter's file says about itself, and what evaluation has learnt about it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from candletune.artifacts import ModelManifest, ProbabilityCalibration
from candletune.calibration import Calibration, prior_offsets, shares_of
from candletune.config import Config
from candletune.errors import InputError
from candletune.gguf.header import read_header

_NONE = Calibration()


@dataclass(frozen=True, slots=True)
class AdapterFacts:
    """From a GGUF's metadata; None where the file does not say.

    Attributes:
        calibration: of its probabilities; where none was fitted, from the class shares of its training examples to the
            base rates.
        template_sha256: of the prompt template it was trained with.
        base_sha256: of the base it was trained on.
        context_sources: share of the training examples in which each context file told something.
        train_end: when the last outcome that it learned from was known.
    """

    calibration: Calibration = _NONE
    template_sha256: str | None = None
    base_sha256: str | None = None
    context_sources: Mapping[str, float] | None = None
    train_end: datetime | None = None


def adapter_facts(path: Path) -> AdapterFacts:
    """Read an adapter's facts; a file of others has none.

    Raises:
        InputError: missing, no GGUF, or class shares or an end of the training that make no sense.
    """
    state = path.stat() if path.is_file() else None
    return _facts(path, 0 if state is None else state.st_mtime_ns)


@lru_cache(maxsize=64)
def _facts(path: Path, _changed: int) -> AdapterFacts:
    manifest = read_header(path).manifest
    try:
        calibration = _calibration(manifest)
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        why = " ".join(str(error).split())[:120]
        raise InputError(f"{path}: its class shares or calibration are unusable ({why}); export it again") from None
    try:
        train_end = _time(manifest.train_end)
    except (ValueError, OverflowError):
        raise InputError(
            f"{path}: its train_end {str(manifest.train_end)[:60]!r} is no time; export it again, or leave it out"
        ) from None
    return AdapterFacts(
        calibration,
        manifest.template_sha256,
        manifest.base_sha256,
        manifest.context_sources,
        train_end,
    )


def _time(text: str | None) -> datetime | None:
    """A time in UTC; one without a zone is in UTC."""
    if text is None:
        return None
    at = datetime.fromisoformat(text)
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def check_template(config: Config, path: Path, facts: AdapterFacts, used: str) -> None:
    """Refuse a model that was trained with another prompt template, unless `live.any_template` accepts it.

    Args:
        config: says whether any template will do.
        path: the model's file.
        facts: what it says of itself.
        used: hash of the configured template.

    Raises:
        InputError: another template.
    """
    trained = facts.template_sha256
    if trained is not None and trained != used and not config.live.any_template:
        raise InputError(
            f"{path}: trained with template {trained[:12]}, prompt.template is {used[:12]}; use the one it was "
            "trained with, or set live.any_template=true"
        )


def _calibration(manifest: ModelManifest) -> Calibration:
    if manifest.calibration is not None:
        fitted = ProbabilityCalibration.model_validate(manifest.calibration)
        return Calibration(fitted.temperature, fitted.offsets, fitted.rows)
    trained, natural = shares_of(manifest.class_prior), shares_of(manifest.natural_prior)
    if trained is None or natural is None:
        return Calibration()
    return Calibration(offsets=prior_offsets(trained, natural))
