"""The ledger of tries: one error budget for a stretch of candles, whoever asks and however often."""

import pytest

from candletune.evaluation.budget import alpha_for


def test_however_many_tries_come_their_levels_stay_within_the_budget() -> None:
    assert alpha_for(1, 0.05) == 0.025
    assert alpha_for(2, 0.05) == pytest.approx(0.05 / 6)
    assert sum(alpha_for(k, 0.05) for k in range(1, 10_000)) < 0.05
    for number, budget in ((0, 0.05), (1, 0.0), (1, 1.0)):
        with pytest.raises(ValueError, match="budget"):
            alpha_for(number, budget)
