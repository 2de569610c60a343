"""`sweep.json`: which settings were tried on the eval split, and what each came to."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import JsonValue

from candletune.artifacts.base import Artifact, Record

TrialState = Literal["finished", "pruned", "failed"]


class Trial(Record):
    """A combination of settings that was tried.

    Attributes:
        name: its folder below the sweep's.
        settings: key in full -> value.
        state: finished; pruned, so that its score is not known; or failed.
        log_loss: of the decision on the eval rows, in nats, calibrated where a calibration could be fitted.
        base_log_loss: of the eval rows' own class shares: what knowing nothing more comes to.
        rows: eval rows.
        rows_sha256: hash of the eval rows; trials of other rows are compared by what they gained over the base rates.
        step: where it was pruned.
        reason: why it failed; else empty.
        seconds: of wall time.
        fingerprint: of settings and data; another one is tried again.
    """

    name: str
    settings: Mapping[str, JsonValue]
    state: TrialState
    log_loss: float | None = None
    base_log_loss: float | None = None
    rows: int = 0
    rows_sha256: str = ""
    step: int | None = None
    reason: str = ""
    seconds: float = 0.0
    fingerprint: str = ""

    @property
    def score(self) -> float | None:
        """Log loss beyond that of the base rates on the same rows; lower is better, 0 knows nothing."""
        if self.state != "finished" or self.log_loss is None or self.base_log_loss is None:
            return None
        return self.log_loss - self.base_log_loss


class Sweep(Artifact):
    """A sweep as far as it went.

    Attributes:
        method: `grid` or `optuna`.
        model: `llm` or `boosting`.
        planned: trials in all.
        trials: those that were tried, in order.
        winner: name of the one with the lowest score; None while trials are to come, and where none finished.
        named: when it was named, ISO 8601 in UTC; empty while there is none.
    """

    COMMAND: ClassVar[str] = "sweep"

    method: Literal["grid", "optuna"]
    model: Literal["llm", "boosting"] = "llm"
    planned: int
    trials: tuple[Trial, ...] = ()
    winner: str | None = None
    named: str = ""

    def trial(self, name: str) -> Trial | None:
        """The trial of that name."""
        return next((trial for trial in self.trials if trial.name == name), None)

    def best(self) -> Trial | None:
        """The finished trial with the lowest score, the earlier of equal ones."""
        finished = [trial for trial in self.trials if trial.score is not None]
        return min(finished, key=lambda trial: trial.score or 0.0, default=None)

    def count(self, state: TrialState) -> int:
        """Trials in that state."""
        return sum(trial.state == state for trial in self.trials)
