"""The median rule over trials that run side by side finds what it finds over trials one after another."""

import random
from collections.abc import Mapping

import pytest

from candletune.artifacts.sweep import Trial
from candletune.experiments.board import Board

Curves = list[dict[int, float]]
STEPS = 6


def record(number: int, step: int | None = None, *, rows: str = "a") -> Trial:
    return Trial(
        name=str(number), settings={}, state="finished" if step is None else "pruned", step=step, rows_sha256=rows
    )


def one_after_another(curves: Curves, rows: list[str]) -> list[int | None]:
    """The step at which each trial is stopped; it looks behind every step."""
    board, stops = Board(), list[int | None]()
    for place, curve in enumerate(curves):
        stop, seen = None, dict[int, float]()
        for step, loss in curve.items():
            seen[step] = loss
            if (stop := board.look(place, rows[place], dict(seen))) is not None:
                break
        board.ended(place, record(place, stop, rows=rows[place]), seen)
        stops.append(stop)
    return stops


def side_by_side(curves: Curves, rows: list[str], at_a_time: int, rng: random.Random) -> tuple[list[int | None], int]:
    """The same with some at a time, each as fast as chance has it; and the steps that were trained."""
    board, stops = Board(), dict[int, int | None]()
    waiting, under_way, trained = list(range(len(curves))), dict[int, dict[int, float]](), 0
    while waiting or under_way:
        while waiting and len(under_way) < at_a_time:
            under_way[waiting.pop(0)] = {}
        place = rng.choice(sorted(under_way))
        seen, step = under_way[place], len(under_way[place]) + 1
        seen[step] = curves[place][step]
        trained += 1
        stop = board.look(place, rows[place], dict(seen))
        if stop is not None or step == STEPS:
            board.ended(place, record(place, stop, rows=rows[place]), seen)
            stops[place] = stop
            del under_way[place]
    return [board.hopeless(place) if stops[place] is None else stops[place] for place in range(len(curves))], trained


@pytest.mark.parametrize("seed", range(40))
def test_the_order_of_ends_changes_nothing(seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311
    curves: Curves = []
    for _ in range(14):
        final, speed = rng.random(), rng.random()
        curves.append({step: final + speed / step + 0.05 * rng.random() for step in range(1, STEPS + 1)})
    rows = [rng.choice("aab") for _ in curves]
    expected = one_after_another(curves, rows)
    found, trained = side_by_side(curves, rows, rng.choice((1, 2, 5, 14)), rng)
    assert found == expected
    assert any(stop is not None for stop in expected)
    assert trained <= STEPS * len(curves)


def test_a_trial_side_by_side_is_stopped_as_soon_as_it_is_certain() -> None:
    board = Board()
    for place in range(4):
        assert board.look(place, "a", {1: 0.5 + place / 100}) is None
    assert board.look(4, "a", {1: 0.9}) == 1  # all before it have reached the step, though none has ended
    assert board.look(5, "a", {1: 0.9, 2: 0.9}) == 1


def test_nothing_is_certain_behind_a_trial_that_was_not_heard_of() -> None:
    board = Board()
    for place in (0, 1, 2, 3, 5):
        board.look(place, "a", {1: 0.5})
    assert board.look(6, "a", {1: 0.9}) is None
    board.look(4, "b", {1: 0.1})  # over other rows: no matter how far it is
    assert board.look(6, "a", {1: 0.9}) == 1


def test_a_pruned_trial_counts_up_to_where_it_was_pruned() -> None:
    """So that a training that went on until somebody looked is no other than one that was stopped at once."""
    full: Mapping[int, float] = {1: 0.9, 2: 0.05}
    for curve in (full, {1: 0.9}):
        board = Board()
        for place in range(4):
            board.ended(place, record(place), {1: 0.5, 2: 0.4})
        board.ended(4, record(4), curve)
        assert board.hopeless(4) == 1
        board.ended(5, record(5), {1: 0.5, 2: 0.4})
        assert board.hopeless(5) is None


def test_a_failed_trial_does_not_count() -> None:
    board = Board()
    for place in range(4):
        board.ended(place, record(place), {1: 0.5})
    board.ended(4, record(4).model_copy(update={"state": "failed"}), {1: 0.1})
    board.ended(5, record(5), {1: 0.5})
    assert board.hopeless(5) is None
    assert board.hopeless(4) is None
