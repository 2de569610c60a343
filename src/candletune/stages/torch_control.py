"""PyTorch's decisions of a replay held against llama.cpp's, on rows of all times and on those nearest to a tie."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from candletune.artifacts.replay_control import ReplayControl
from candletune.console import Reporter
from candletune.decide import Model
from candletune.engines.recorded import RecordedEngine
from candletune.files import write_bytes

CONTROL, NEAR_TIES = 200, 50
"""Rows of a model that llama.cpp is asked too: evenly spread, and those nearest to a tie."""
LEAST = 0.99
"""Share of the spread rows on which both must decide alike."""
AT_ONCE = 16
"""Rows asked between two steps of the progress."""
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a model is asked.

    Attributes:
        model: who.
        prompts: n of them.
        spread: row numbers of the control sample; none: this model is in no comparison.
        besides: rows that llama.cpp answers in any case, since it writes their reasons.
    """

    model: Model
    prompts: Sequence[str]
    spread: Sequence[int] = ()
    besides: Sequence[int] = ()

    @property
    def name(self) -> str | None:
        """The adapter's, as engines know it."""
        return self.model.sha256 if self.model.kind == "adapter" else None


Scored = tuple[Asked, Floats]
"""A model's probabilities (n, 3) by PyTorch."""


def nearest_to_a_tie(probabilities: Floats, left_out: Sequence[int], wanted: int) -> list[int]:
    """Row numbers of the smallest distances between the two likeliest decisions, in order of time."""
    ordered = np.sort(probabilities, axis=1)
    margins = np.nan_to_num(ordered[:, -1] - ordered[:, -2], nan=0.0)
    margins[list(left_out)] = np.inf
    chosen = np.argsort(margins, kind="stable")[:wanted]
    return sorted(int(number) for number in chosen if np.isfinite(margins[number]))


def ask_control(
    scored: Sequence[Scored], engines: Sequence[RecordedEngine], kept: Path, reporter: Reporter
) -> tuple[ReplayControl, list[dict[int, Floats]]]:
    """Ask llama.cpp the sample.

    Args:
        scored: of each model.
        engines: llama.cpp over each model's base.
        kept: file of the answers; read where it is there.
        reporter: progress.

    Returns:
        How both agree, and for each model llama.cpp's probabilities (3,) by row number.
    """
    chosen = []
    for asked, found in scored:
        even = sorted({*asked.spread, *asked.besides}) if asked.spread else []
        chosen.append((even, nearest_to_a_tie(found, even, NEAR_TIES) if even else []))
    if not kept.is_file():
        _ask(scored, engines, chosen, kept, reporter)
    told: list[dict[int, Floats]] = []
    with np.load(kept) as file:
        for number, (even, near) in enumerate(chosen):
            told.append(dict(zip([*even, *near], file[str(number)], strict=True)))
    return compare(scored, told, chosen), told


def _ask(
    scored: Sequence[Scored],
    engines: Sequence[RecordedEngine],
    chosen: Sequence[tuple[list[int], list[int]]],
    kept: Path,
    reporter: Reporter,
) -> None:
    answers: dict[str, Floats] = {}
    with reporter.task("replay: llama.cpp's control", sum(len(even) + len(near) for even, near in chosen)) as task:
        for number, ((asked, _), engine) in enumerate(zip(scored, engines, strict=True)):
            rows = [*chosen[number][0], *chosen[number][1]]
            parts = [np.zeros((0, 3))]
            for start in range(0, len(rows), AT_ONCE):
                engine.use(asked.name)
                parts.append(engine.asked.score([asked.prompts[row] for row in rows[start : start + AT_ONCE]]))
                task.advance(len(parts[-1]))
            answers[str(number)] = np.concatenate(parts)
    data = BytesIO()
    np.savez(data, **answers)  # type: ignore[arg-type]
    write_bytes(kept, data.getvalue())


def compare(
    scored: Sequence[Scored], told: Sequence[Mapping[int, Floats]], chosen: Sequence[tuple[list[int], list[int]]]
) -> ReplayControl:
    """Both engines' probabilities on the sample; one that is no number agrees with nothing."""
    same: tuple[list[bool], list[bool]] = ([], [])
    gap = 0.0
    for (_, found), answers, groups in zip(scored, told, chosen, strict=True):
        for kind, rows in zip(same, groups, strict=True):
            for row in rows:
                ours, theirs = found[row], answers[row]
                usable = bool(np.isfinite(ours).all() and np.isfinite(theirs).all())
                kind.append(usable and int(ours.argmax()) == int(theirs.argmax()))
                gap = max(gap, float(np.abs(ours - theirs).max()) if usable else 1.0)
    even, near = (sum(kind) / len(kind) if kind else 1.0 for kind in same)
    return ReplayControl(
        decided="torch" if even >= LEAST else "llama.cpp",
        rows=max(len(groups[0]) for groups in chosen),
        answers=len(same[0]),
        agreement=round(even, 6),
        near_ties=len(same[1]),
        near_agreement=round(near, 6),
        largest_gap=round(gap, 6),
        least=LEAST,
    )
