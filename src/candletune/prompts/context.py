"""The prompt's context: from a market row or from a trader's JSON, and how each field is displayed.

The keys are the Signal contract's. A market row and the JSON a live trader sends end in the same display fields, so a
model is served exactly what it was trained on. What the keys are, and how each is validated and displayed, is said by
the fields (`candletune.fields`).
"""

from collections.abc import Container, Iterable, Mapping
from typing import Any

from candletune.errors import InputError
from candletune.fields.field import ContextColumns
from candletune.fields.keys import absent
from candletune.fields.registry import FIELDS, KEY_NAMES, KEYS
from candletune.market.headlines.text import clean_headline
from candletune.prompts.nearest import near_names

Context = dict[str, Any]
"""Values by key of the Signal contract: a trader's own JSON. What may stand under a key is said by its field."""
_OWN_BOOKS = ("timestamp", "time", "interval", "exchange", "pair", "symbol")
"""Keys that traders send along for themselves; they are no misspellings of ours."""
_LISTED = 8
_OFTEN = 0.5
"""A source that told something in this share of the training examples or more is missed when it is silent."""
LEAST_KNOWN = 0.05
"""A source that told something in a smaller share of the training examples counts as absent from training."""


def context_of(row: Mapping[str, Any]) -> Context:
    """A market row (`fields.columns.market_rows`) as a context."""
    return {key.name: row[key.column] for key in KEYS if key.column in row}


def clean_context(given: Mapping[str, Any]) -> Context:
    """Validate a trader's JSON context; optional fields missing, null or "N/A" become None, text is cleaned.

    Unknown keys are ignored (`unknown_keys` lists them), but for those that look like a misspelled known one.

    Raises:
        InputError: names the key, what was expected and what was given.
    """
    for name in unknown_keys(given):
        if near := _misspelled(name, given):
            raise InputError(
                f"context.{_shown(name)}: no such key; did you mean {near}? Send it by that name, or leave it out"
            )
    for key in KEYS:
        if key.required and given.get(key.name) in (None, ""):
            raise InputError(f"context.{key.name}: missing; send it with every request")
    context = {key.name: key.clean(key.name, given.get(key.name)) for key in KEYS}
    for key in KEYS:
        if key.required and context[key.name] in (None, ""):  # a text of nothing but control characters
            raise InputError(f"context.{key.name}: says nothing; send it with every request")
    return context


def display_fields(context: Mapping[str, Any]) -> Context:
    """The template's fields, formatted; a missing one reads N/A (sentiment: its neutral placeholder)."""
    return {name: value for field in FIELDS for name, value in field.display(context).items()}


def unknown_keys(given: Mapping[str, Any]) -> list[str]:
    """Keys of a trader's context that no field has, in their order."""
    return [name for name in given if name not in KEY_NAMES]


def ignored_keys(given: Mapping[str, Any]) -> list[str]:
    """A sentence about a trader's unknown keys, or none when there are none."""
    if not (names := unknown_keys(given)):
        return []
    listed = ", ".join(map(_shown, names[:_LISTED])) + (", ..." if len(names) > _LISTED else "")
    return [f"context.{listed}: no such key, ignored; known keys: {', '.join(KEY_NAMES)}"]


def _shown(name: str) -> str:
    return clean_headline(name, limit=40) or "(no name)"


def raw_values(context: Mapping[str, Any]) -> Context:
    """What templates see as `raw`: numbers, flags, texts; None where missing (sentiment: its neutral placeholder)."""
    return {key.name: key.raw_value(context.get(key.name)) for key in KEYS}


def context_sources(contexts: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """For each context file (`fear_greed`, `headlines`): the share of contexts it told something about.

    Something is whatever differs from the neutral placeholder.
    """
    keys = _source_keys()
    told = dict.fromkeys(keys, 0)
    count = 0
    for context in contexts:
        count += 1
        for source, names in keys.items():
            told[source] += any(_informs(context, name) for name in names)
    return {source: round(number / max(1, count), 4) for source, number in told.items()}


def untrained_sources(context: Mapping[str, Any], trained: Mapping[str, float] | None) -> list[str]:
    """A sentence for each source that speaks in a context and was a placeholder throughout training.

    Args:
        context: a clean one, as far as the template shows it.
        trained: `context_sources` of the training examples; None when the adapter does not say.
    """
    if trained is None:
        return []
    sentences = []
    for source, names in _source_keys().items():
        speaking = [name for name in names if _informs(context, name)]
        if speaking and trained.get(source, 0.0) < LEAST_KNOWN:
            sentences.append(
                f"context.{', '.join(speaking)}: the model was trained on placeholders here (data.{source} was not "
                "set, or told nothing), so its answer to a real value means little"
            )
    return sentences


def differing_sources(
    now: Mapping[str, float], trained: Mapping[str, float] | None, shown: Container[str]
) -> list[str]:
    """A sentence for each context file that told something in training and is silent now, or the other way round.

    Args:
        now: `context_sources` of the contexts that are asked about.
        trained: `context_sources` of the training examples; None when the adapter does not say.
        shown: the keys that the template shows; files that it shows nothing of make no difference.
    """
    if trained is None:
        return []
    sentences = []
    for source, names in _source_keys().items():
        if not any(name in shown for name in names):
            continue
        share = now.get(source, 0.0)
        before = trained.get(source, 0.0)
        told = f"data.{source} tells something in {share:.0%} of the rows, and did in {before:.0%} of the training's"
        if share >= LEAST_KNOWN > before:
            sentences.append(f"{told}: the model was trained on placeholders here; unset it, or train with it")
        elif before >= _OFTEN and share < LEAST_KNOWN:
            sentences.append(f"{told}: the model misses what it was trained with; set the file")
    return sentences


def missing_keys(context: Mapping[str, Any], trained: Mapping[str, float] | None) -> list[str]:
    """A sentence about values that the prompt lacks and training had, or none.

    Args:
        context: a clean one, as far as the template shows it.
        trained: `context_sources` of the training examples; None when the adapter does not say.
    """
    if trained is None:
        return []
    rare = {name for source, names in _source_keys().items() if trained.get(source, 0.0) < _OFTEN for name in names}
    lacking = [key.name for key in KEYS if key.name in context and key.name not in rare and absent(context[key.name])]
    if not lacking:
        return []
    return [
        f"context.{', '.join(lacking)}: not sent, so the prompt says N/A (or a neutral placeholder) where training had "
        "values; the answer means less"
    ]


def _source_keys() -> dict[str, list[str]]:
    """Context source -> the keys that come from it."""
    keys: dict[str, list[str]] = {}
    for field in FIELDS:
        for columns in field.columns:
            if isinstance(columns, ContextColumns):
                keys.setdefault(columns.source, []).extend(key.name for key in field.keys)
    return keys


def _informs(context: Mapping[str, Any], name: str) -> bool:
    return next(key for key in KEYS if key.name == name).informs(context.get(name))


def _misspelled(name: str, given: Mapping[str, Any]) -> str | None:
    """The key that an unknown one means; None when it means none, or that key was sent as well."""
    near = [] if name.lower() in _OWN_BOOKS else near_names(name, KEY_NAMES)
    return near[0] if near and all(absent(given.get(other)) for other in near) else None
