"""Whether the context files tell a model now what they told it in training."""

from collections.abc import Iterable, Mapping
from typing import Any

from candletune.decide.adapters import AdapterFacts
from candletune.prompts.context import context_of, context_sources, differing_sources
from candletune.prompts.template import Template


def told_in(rows: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """For each context file: the share of market rows that it tells something about."""
    return context_sources(map(context_of, rows))


def differing_context(facts: AdapterFacts, told: Mapping[str, float], template: Template) -> list[str]:
    """A sentence for each context file that told something in training and is silent now, or the other way round.

    Args:
        facts: of the model; one that does not say what it was trained with differs from nothing.
        told: `told_in` of the rows that are asked about.
        template: files that it shows nothing of make no difference.
    """
    return differing_sources(told, facts.context_sources, template.shown_keys)
