"""The `dataset` stage: market rows and labels to balanced, rendered training examples, and how to read them back."""

from candletune.dataset.audit import audit
from candletune.dataset.build import STAGE, build
from candletune.dataset.files import JSONL, MANIFEST, META, NATURAL, Examples, read_examples
from candletune.dataset.rows import add_prompts, complete_rows, decision_rows, labelled_times, load_pair
from candletune.dataset.sampling import balance, candidates, class_shares, natural_sample

__all__ = [
    "JSONL",
    "MANIFEST",
    "META",
    "NATURAL",
    "STAGE",
    "Examples",
    "add_prompts",
    "audit",
    "balance",
    "build",
    "candidates",
    "class_shares",
    "complete_rows",
    "decision_rows",
    "labelled_times",
    "load_pair",
    "natural_sample",
    "read_examples",
]
