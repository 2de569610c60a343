"""What the stage leaves in the run folder, and reading it back."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from candletune.errors import InputError
from candletune.files import write_text
from candletune.hashes import sha256_path
from candletune.runs import RunFolder

JSONL = "lora_training.jsonl"
META = "lora_training.meta.parquet"
NATURAL = "natural_eval.parquet"
MANIFEST = "manifest.json"
CARD = "card.html"


@dataclass(frozen=True, slots=True)
class Examples:
    """A dataset read back: prompts and completions in file order, and the sidecar row for row."""

    prompts: list[str]
    completions: list[str]
    meta: pl.DataFrame


def to_line(prompt: str, completion: str) -> str:
    """One line of the JSONL."""
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": completion}]
    return json.dumps({"messages": messages}, ensure_ascii=False)


def write_examples(path: Path, prompts: Sequence[str], completions: Sequence[str]) -> str:
    """Write the JSONL; returns its hash."""
    write_text(path, "\n".join(map(to_line, prompts, completions)) + "\n")
    return sha256_path(path)


def read_examples(run: RunFolder) -> Examples:
    """Read the dataset of a run.

    Raises:
        InputError: it is missing, a line does not hold to the contract, or the sidecar has another length.
    """
    path = run.jsonl
    if not path.is_file():
        raise InputError(f"{path}: no such file; run `candletune dataset` first")
    prompts, completions = [], []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                user, assistant = json.loads(line)["messages"]
                if (user["role"], assistant["role"]) != ("user", "assistant"):
                    raise ValueError
                prompts.append(user["content"])
                completions.append(assistant["content"])
            except (ValueError, KeyError, TypeError):
                raise InputError(
                    f"{path}: line {number} is not a user and an assistant message; run `candletune dataset --force`"
                ) from None
    sidecar = run.meta
    try:
        meta = pl.read_parquet(sidecar)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{sidecar}: cannot be read ({error}); run `candletune dataset --force`") from None
    if len(meta) != len(prompts):
        raise InputError(f"{path}: {len(prompts)} lines but {len(meta)} sidecar rows; run `candletune dataset --force`")
    return Examples(prompts, completions, meta)
