"""The `dataset` stage: market rows and labels to balanced, rendered training examples, and how to read them back."""

from candletune.dataset.audit import audit
from candletune.dataset.build import build
from candletune.dataset.files import JSONL, MANIFEST, META, NATURAL, Examples, read_examples
from candletune.dataset.overlap import example_uniqueness
from candletune.dataset.pairs import load_pair
from candletune.dataset.period import TestPeriod, find_test_period
from candletune.dataset.rows import add_prompts, complete_rows, decision_rows
from candletune.dataset.sampling import draw_sample, survey
from candletune.dataset.volatility import example_volatility
from candletune.dataset.weights import stands_for

__all__ = [
    "JSONL",
    "MANIFEST",
    "META",
    "NATURAL",
    "Examples",
    "TestPeriod",
    "add_prompts",
    "audit",
    "build",
    "complete_rows",
    "decision_rows",
    "draw_sample",
    "example_uniqueness",
    "example_volatility",
    "find_test_period",
    "load_pair",
    "read_examples",
    "stands_for",
    "survey",
]
