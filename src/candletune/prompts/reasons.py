"""Templated completions grounded in the row's indicators.

A reason names facts that are true of the row. When they support the label it says so; when they oppose it, it says that
too ("Despite an overbought RSI of 74.1, ...") instead of inventing support: a label comes from the future, so honest
reasons must be able to disagree with the indicators.
"""

import random
from collections.abc import Mapping
from typing import Any

from candletune.decisions import BUY, HOLD, SELL, Decision
from candletune.prompts.context import display_fields
from candletune.prompts.facts import Fact, facts_of, say

_SUPPORTED = (
    "{a} and {b} {point} {direction}.",
    "{a} together with {b} {favour} {direction}.",
    "With {a} and {b}, the setup leans towards {direction}.",
    "{a}, backed by {b}, {suggest} {direction}.",
    "{a} lines up with {b}, which favours {direction}.",
    "Both {a} and {b} argue for {direction}.",
    "{a} confirms {b}, so {direction} looks likely.",
    "The case for {direction} rests on {a} and {b}.",
)
_DISPUTED = (
    "Despite {o}, {a} favours {direction}.",
    "{a} outweighs {o} and points to {direction}.",
    "{o} is a headwind, yet {a} speaks for {direction}.",
    "{a} carries more weight than {o}, suggesting {direction}.",
    "Even with {o}, {a} leaves room for {direction}.",
    "{a} against {o} still tilts the odds towards {direction}.",
    "{o} argues against it, but {a} supports {direction}.",
    "Looking past {o}, {a} hints at {direction}.",
)
_OPPOSED = (
    "{o} and {p} speak against it, but the stretch makes {direction} possible.",
    "Despite {o} and {p}, the risk lies in {direction}.",
    "{o} with {p} looks one-sided, a setting that can end in {direction}.",
    "A turn is in play: {o} and {p} may be exhausted, opening {direction}.",
    "Against {o} and {p}, a reversal towards {direction} is the better bet.",
    "{o} and {p} are already priced in, so {direction} may follow.",
    "Contrary to {o} and {p}, the setup may resolve in {direction}.",
    "{o} beside {p} marks a crowded move, leaving {direction} as the surprise.",
)
_MIXED = (
    "{a} is offset by {o}, so there is no clear edge.",
    "{a} and {o} pull in opposite directions, which calls for patience.",
    "Signals conflict: {a} against {o}, so waiting is best.",
    "{o} cancels {a}, leaving the direction open.",
    "With {a} on one side and {o} on the other, a big move is not indicated.",
    "{a} meets {o}, a balance that argues for staying out.",
    "Neither {a} nor {o} is decisive, so no position is warranted.",
    "{a} lacks confirmation because of {o}, so holding is prudent.",
)
_CALM = (
    "{a} and {b} show no clear direction for the next hours.",
    "{a} with {b} points to a range, so there is nothing to chase.",
    "The picture is balanced: {a} and {b}.",
    "{a} and {b} give no reason to act.",
    "With {a} and {b}, a move beyond 2% looks unlikely.",
    "{a} alongside {b} argues for patience.",
    "{a} and {b} leave the market without an edge.",
    "Conditions are quiet: {a} and {b}, so holding fits.",
)
_ONE_SIDED = (
    "{a} and {b} agree, but not strongly enough for a 2% move.",
    "{a} and {b} are in place already, so follow-through may be limited.",
    "{a} with {b} looks extended rather than fresh, so waiting is safer.",
    "Although {a} and {b} agree, the expected move stays within 2%.",
    "{a} and {b} lean one way, yet the edge is too small to act on.",
    "{a} plus {b} may need consolidation first, so no trade.",
    "{a} and {b} alone do not justify a position here.",
    "Even with {a} and {b}, the next 12 hours look range-bound.",
)
_DIRECTIONS = {
    BUY: ("upside over the next hours", "a move higher", "a rise within 12 hours", "upward momentum", "a push up"),
    SELL: ("downside over the next hours", "a move lower", "a fall within 12 hours", "downward momentum", "a push down"),
}
_VERBS = {
    "point": ("point to", "indicate", "signal"),
    "favour": ("favour", "support", "back"),
    "suggest": ("suggests", "signals", "implies"),
}
_KINDS = {
    "supported": _SUPPORTED,
    "disputed": _DISPUTED,
    "opposed": _OPPOSED,
    "mixed": _MIXED,
    "calm": _CALM,
    "one-sided": _ONE_SIDED,
}


def write_reason(context: Mapping[str, Any], label: Decision, rng: random.Random) -> tuple[str, str]:
    """A reason for the label that is true of the row.

    Args:
        context: Signal-contract context with raw values.
        label: the decision to reason for.
        rng: source of every choice.

    Returns:
        The template's name (for example `BUY/supported/3`) and the sentence.
    """
    facts = facts_of(context, display_fields(context))
    rng.shuffle(facts)
    kind, slots = _hold_slots(facts, rng) if label == HOLD else _side_slots(facts, label, rng)
    templates = _KINDS[kind]
    number = rng.randrange(len(templates))
    words = {name: choices[rng.randrange(len(choices))] for name, choices in _VERBS.items()}
    if label != HOLD:
        directions = _DIRECTIONS[label]
        words["direction"] = directions[rng.randrange(len(directions))]
    sentence = templates[number].format(**slots, **words)
    return f"{label}/{kind}/{number}", sentence[0].upper() + sentence[1:]


def write_completion(context: Mapping[str, Any], label: Decision, rng: random.Random) -> tuple[str, str]:
    """The template's name and the whole completion, `DECISION: BUY - <sentence>`."""
    name, sentence = write_reason(context, label, rng)
    return name, f"DECISION: {label} - {sentence}"


def _split(facts: list[Fact]) -> tuple[list[Fact], list[Fact], list[Fact]]:
    return tuple([fact for fact in facts if fact.side == side] for side in ("bull", "bear", "neutral"))  # type: ignore[return-value]


def _side_slots(facts: list[Fact], label: Decision, rng: random.Random) -> tuple[str, dict[str, str]]:
    bull, bear, _ = _split(facts)
    mine, other = (bull, bear) if label == BUY else (bear, bull)
    if len(mine) >= 2 and (not other or rng.random() < 0.6):
        return "supported", {"a": say(mine[0], rng), "b": say(mine[1], rng)}
    if mine and other:
        return "disputed", {"a": say(mine[0], rng), "o": say(other[0], rng)}
    rest = [fact for fact in facts if fact not in mine]
    if mine:
        return "disputed", {"a": say(mine[0], rng), "o": say(rest[0], rng)}
    return "opposed", {"o": say(rest[0], rng), "p": say(rest[1], rng)}


def _hold_slots(facts: list[Fact], rng: random.Random) -> tuple[str, dict[str, str]]:
    bull, bear, neutral = _split(facts)
    if neutral and rng.random() < 0.5:
        others = [fact for fact in facts if fact is not neutral[0]]
        return "calm", {"a": say(neutral[0], rng), "b": say(others[0], rng)}
    if bull and bear:
        first, second = (bull, bear) if rng.random() < 0.5 else (bear, bull)
        return "mixed", {"a": say(first[0], rng), "o": say(second[0], rng)}
    return "one-sided", {"a": say(facts[0], rng), "b": say(facts[1], rng)}
