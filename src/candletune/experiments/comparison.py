"""Runs side by side: what was measured of each, and how far each is from the reference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from candletune.evaluation.across_runs import Paired, compare_runs
from candletune.experiments.entrants import Entrant, differing

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Compared:
    """A comparison.

    Attributes:
        entrants: the runs, in the order in which they were named.
        reference: the run that the others are held against.
        paired: other run -> how its candidate does against the reference's.
        settings: settings that differ -> each run's value.
    """

    entrants: Sequence[Entrant]
    reference: Entrant
    paired: Mapping[str, Paired]
    settings: Mapping[str, Sequence[str]]

    @property
    def sentence(self) -> str:
        """What was found, for people."""
        clear = {word: [n for n, pair in self.paired.items() if pair.finding == word] for word in ("better", "worse")}
        judged = [pair for pair in self.paired.values() if pair.adjusted is not None]
        if not self.paired:
            return "One run: there is nothing to compare it with."
        if not judged:
            return f"Nothing can be compared with {self.reference.name}: see the reasons below."
        if not any(clear.values()) and len(judged) == 1:
            (name,) = (name for name, pair in self.paired.items() if pair.adjusted is not None)
            return f"{name} does not differ clearly from {self.reference.name} in BUY and SELL accuracy."
        if not any(clear.values()):
            return (
                f"None of {len(judged)} differs clearly from {self.reference.name} in BUY and SELL accuracy; the best "
                "of them may be the luckiest."
            )
        told = [
            f"{', '.join(names)} clearly {word} than {self.reference.name}" for word, names in clear.items() if names
        ]
        return f"{'; '.join(told)}{f', all {len(judged)} asked at once' if len(judged) > 1 else ''}."


def compare(entrants: Sequence[Entrant], reference: Entrant) -> Compared:
    """Compare runs that were read (see `entrants.read_entrants`)."""
    scored = {entrant.name: entrant.scored for entrant in entrants if entrant.scored is not None}
    paired = (
        compare_runs(scored, reference.name, move=reference.move, horizon=reference.horizon, confidence=CONFIDENCE)
        if reference.scored is not None
        else {}
    )
    return Compared(
        entrants,
        reference,
        {
            entrant.name: paired.get(entrant.name, Paired(problem="not evaluated"))
            for entrant in entrants
            if entrant is not reference
        },
        differing(entrants),
    )
