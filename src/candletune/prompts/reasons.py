"""Templated completions grounded in the row's indicators.

A reason names facts that are true of the row. When they support the label it says so; when they oppose it, it says that
too ("Despite an overbought RSI of 74.1, ...") instead of inventing support: a label comes from the future, so honest
reasons must be able to disagree with the indicators.
"""

import random
from collections.abc import Mapping
from typing import Any

from candletune.decisions import BUY, HOLD, SELL, Decision
from candletune.errors import InputError
from candletune.fields.field import Fact
from candletune.prompts.context import display_fields
from candletune.prompts.facts import facts_of, say

# a, b speak for the label (in HOLD: whatever is named); o, p speak against it; n, m speak for neither side. The single
# ones are for a template that shows one indicator only.
_KINDS: Mapping[str, tuple[str, ...]] = {
    "supported": (
        "{a} and {b} point to {direction}.",
        "{a} together with {b} favours {direction}.",
        "With {a} and {b}, the setup leans towards {direction}.",
        "{a}, backed by {b}, suggests {direction}.",
        "{a} lines up with {b}, which favours {direction}.",
        "Both {a} and {b} argue for {direction}.",
        "{a} agrees with {b}, so {direction} looks likely.",
        "The case for {direction} rests on {a} and {b}.",
        "{a} and {b} combine into a setup for {direction}.",
        "{direction} is indicated by {a} and {b}.",
    ),
    "disputed": (
        "Despite {o}, {a} favours {direction}.",
        "{a} outweighs {o} and points to {direction}.",
        "{o} is a headwind, yet {a} speaks for {direction}.",
        "{a} carries more weight than {o}, suggesting {direction}.",
        "Even with {o}, {a} leaves room for {direction}.",
        "{a} against {o} still tilts the odds towards {direction}.",
        "{o} argues against it, but {a} supports {direction}.",
        "Looking past {o}, {a} hints at {direction}.",
    ),
    "lone": (
        "{a} is the clearest sign next to {n} and favours {direction}.",
        "With {n} saying little, {a} decides for {direction}.",
        "{n} is undecided, but {a} leans towards {direction}.",
        "Only {a} stands out beside {n}, hinting at {direction}.",
    ),
    "opposed": (
        "{o} and {p} speak against it, but the stretch makes {direction} possible.",
        "Despite {o} and {p}, the risk lies in {direction}.",
        "{o} with {p} looks one-sided, a setting that can end in {direction}.",
        "{o} and {p} may be exhausted, opening {direction}.",
        "Against {o} and {p}, a reversal towards {direction} is the better bet.",
        "{o} and {p} may be priced in already, so {direction} can follow.",
        "Contrary to {o} and {p}, the setup may resolve in {direction}.",
        "{o} beside {p} marks a crowded move, leaving {direction} as the surprise.",
    ),
    "quiet": (
        "{n} and {m} settle nothing yet, but pressure builds for {direction}.",
        "With {n} and {m}, the market looks coiled for {direction}.",
        "Between {n} and {m} little is decided, and {direction} is the better bet.",
        "{n} next to {m} leaves room for {direction}.",
    ),
    "single": (
        "{a} favours {direction}.",
        "{a} leans towards {direction}.",
        "The one sign, {a}, points to {direction}.",
        "{a} makes {direction} likely.",
    ),
    "single opposed": (
        "Despite {a}, the risk lies in {direction}.",
        "{a} may be priced in already, so {direction} can follow.",
        "Against {a}, a reversal towards {direction} is the better bet.",
        "{a} may be exhausted, opening {direction}.",
    ),
    "single quiet": (
        "{a} settles nothing yet, but pressure builds for {direction}.",
        "With {a}, the market looks coiled for {direction}.",
        "{a} leaves room for {direction}.",
    ),
    "single hold": (
        "{a} alone does not justify a position here.",
        "{a} gives no reason to act.",
        "With {a} and nothing else, a clear move is not indicated.",
        "{a} leaves the market without an edge.",
    ),
    "mixed": (
        "{a} is offset by {o}, so there is no clear edge.",
        "{a} and {o} pull in opposite directions, which calls for patience.",
        "Signals conflict: {a} against {o}, so waiting is best.",
        "{o} cancels {a}, leaving the direction open.",
        "With {a} on one side and {o} on the other, a clear move is not indicated.",
        "{a} meets {o}, a balance that argues for staying out.",
        "Neither {a} nor {o} is decisive, so no position is warranted.",
        "{a} lacks confirmation because of {o}, so holding is prudent.",
    ),
    "calm": (
        "{a} and {b} show no clear direction for the next hours.",
        "{a} with {b} points to a range, so there is nothing to chase.",
        "The picture is balanced: {a} and {b}.",
        "{a} and {b} give no reason to act.",
        "With {a} and {b}, a clear move looks unlikely.",
        "{a} alongside {b} argues for patience.",
        "{a} and {b} leave the market without an edge.",
        "Conditions are quiet, {a} and {b}, so holding fits.",
    ),
    "one-sided": (
        "{a} and {b} agree, but not strongly enough for a clear move.",
        "{a} and {b} are in place already, so follow-through may be limited.",
        "{a} with {b} looks extended rather than fresh, so waiting is safer.",
        "Although {a} and {b} agree, the expected move stays small.",
        "{a} and {b} lean one way, yet the edge is too small to act on.",
        "{a} plus {b} may need consolidation first, so no trade.",
        "{a} and {b} alone do not justify a position here.",
        "Even with {a} and {b}, the next hours look range-bound.",
    ),
}
_DIRECTIONS = {
    BUY: ("upside over the next hours", "a move higher", "a rise in the coming hours", "upward momentum", "a push up"),
    SELL: (
        "downside over the next hours",
        "a move lower",
        "a fall in the coming hours",
        "downward momentum",
        "a push down",
    ),
}


def write_reason(context: Mapping[str, Any], label: Decision, rng: random.Random) -> tuple[str, str]:
    """A reason for the label that is true of the row.

    Args:
        context: Signal-contract context with raw values; at least one of its indicators must be known.
        label: the decision to reason for.
        rng: source of every choice.

    Returns:
        The template's name (for example `BUY/supported/3`) and the sentence.

    Raises:
        InputError: nothing is known that a reason could cite.
    """
    facts = facts_of(context, display_fields(context))
    if not facts:
        raise InputError("the template shows no indicator that is known; a reason needs one to cite")
    rng.shuffle(facts)
    kind, slots = _slots(facts, label, rng)
    templates = _KINDS[kind]
    number = int(rng.random() * len(templates))
    words = {slot: say(fact, rng) for slot, fact in slots.items()}
    if label != HOLD:
        directions = _DIRECTIONS[label]
        words["direction"] = directions[int(rng.random() * len(directions))]
    sentence = templates[number].format(**words)
    return f"{label}/{kind}/{number}", sentence[0].upper() + sentence[1:]


def write_completion(context: Mapping[str, Any], label: Decision, rng: random.Random) -> tuple[str, str]:
    """The template's name and the whole completion, `DECISION: BUY - <sentence>`."""
    name, sentence = write_reason(context, label, rng)
    return name, f"DECISION: {label} - {sentence}"


def _by_side(facts: list[Fact]) -> tuple[list[Fact], list[Fact], list[Fact]]:
    bull, bear, neutral = ([fact for fact in facts if fact.side == side] for side in ("bull", "bear", "neutral"))
    return bull, bear, neutral


def _slots(facts: list[Fact], label: Decision, rng: random.Random) -> tuple[str, dict[str, Fact]]:
    if len(facts) == 1:
        return _single_kind(facts[0], label), {"a": facts[0]}
    return _hold_slots(facts, rng) if label == HOLD else _side_slots(facts, label, rng)


def _single_kind(fact: Fact, label: Decision) -> str:
    if label == HOLD:
        return "single hold"
    if fact.side == "neutral":
        return "single quiet"
    return "single" if (fact.side == "bull") == (label == BUY) else "single opposed"


def _side_slots(facts: list[Fact], label: Decision, rng: random.Random) -> tuple[str, dict[str, Fact]]:
    bull, bear, neutral = _by_side(facts)
    mine, other = (bull, bear) if label == BUY else (bear, bull)
    if len(mine) >= 2 and (not other or rng.random() < 0.6):
        return "supported", {"a": mine[0], "b": mine[1]}
    if mine and other:
        return "disputed", {"a": mine[0], "o": other[0]}
    if mine:
        return "lone", {"a": mine[0], "n": neutral[0]}
    if len(other) >= 2:
        return "opposed", {"o": other[0], "p": other[1]}
    first, second = (neutral + other)[:2]
    return "quiet", {"n": first, "m": second}


def _hold_slots(facts: list[Fact], rng: random.Random) -> tuple[str, dict[str, Fact]]:
    bull, bear, neutral = _by_side(facts)
    if neutral and (len(bull) + len(bear) < 2 or rng.random() < 0.5):
        others = [fact for fact in facts if fact is not neutral[0]]
        return "calm", {"a": neutral[0], "b": others[0]}
    if bull and bear:
        first, second = (bull, bear) if rng.random() < 0.5 else (bear, bull)
        return "mixed", {"a": first[0], "o": second[0]}
    first_two = (bull or bear)[:2]
    return "one-sided", {"a": first_two[0], "b": first_two[1]}
