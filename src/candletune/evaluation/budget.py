"""How much of one error budget a try may spend: pure numbers, the only place that has the schedule."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Level:
    """What a verdict's bounds are made with.

    Attributes:
        alpha: one-sided error that a bound may make.
        one_look: the bound of a single look at rows that were fixed before (a registered replay); else one that holds
            at every look.
    """

    alpha: float
    one_look: bool = False


FIRST, LATER = 0.5, 0.3
"""Shares of the budget that the first try, and all later ones together, may spend; a fifth is kept back."""


def alpha_for(number: int, budget: float) -> float:
    """The error that the `number`-th try on the same candles may make: half the budget, then 0.3 budget / (k (k - 1)).

    The levels of all tries, however many come, stay within the budget. So over any number of them, of whatever kind and
    however dependent, the chance that at least one candidate without a gain is promoted stays within it (Bonferroni;
    alpha spending of Foster and Stine, "Alpha-investing", 2008). `bench/tries.py` compares schedules.

    Why a part is kept back: with skill that comes and goes a year's twelve months are no independent observations, and
    the smaller the error the less exact is Student's t over them. Measured by `bench/decision.py`.

    Args:
        number: 1 for the first try.
        budget: error allowed over all tries together, for example 0.05.

    Raises:
        ValueError: there is no such try, or the budget is none.
    """
    if number < 1 or not 0 < budget < 1:
        raise ValueError(f"try {number} of a budget of {budget}")
    return FIRST * budget if number == 1 else LATER * budget / (number * (number - 1))
