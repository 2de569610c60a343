"""candletune's own record inside a GGUF, read with bounds: the file may come from anywhere."""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from candletune.artifacts import ModelManifest
from candletune.errors import InputError

MAX_MANIFEST = 2**18
"""Characters; an adapter's has about two thousand."""
MAX_DEPTH = 16
MAX_WORD = 1_000
"""Characters of a name, a hash or a time."""
KEY = "candletune.manifest"
_WORDS = ("base", "base_sha256", "base_gguf_sha256", "storage", "template_sha256", "dataset_sha256", "train_end")


def read_manifest(path: Path, text: str | None) -> ModelManifest:
    """The record; empty for a file of others.

    Args:
        path: the GGUF, for the error.
        text: what it has under `candletune.manifest`.

    Raises:
        InputError: it is damaged.
    """
    if text is None:
        return ModelManifest()
    try:
        if len(text) > MAX_MANIFEST:
            raise ValueError(f"{len(text)} characters")
        recorded = json.loads(text, parse_int=_integer, parse_constant=_constant)
        _check_depth(recorded)
    except (ValueError, RecursionError) as error:
        why = " ".join(str(error).split())[:80] if not isinstance(error, RecursionError) else "too deeply nested"
        raise InputError(f"{path}: {KEY} is not JSON that can be read ({why}); export the adapter again") from None
    try:
        manifest = ModelManifest.model_validate(recorded if isinstance(recorded, dict) else {}, extra="ignore")
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path}: {KEY}: {key[:80]}: {first['msg'][:200]}; export the adapter again") from None
    for name in _WORDS:
        word = getattr(manifest, name)
        if word is not None and (len(word) > MAX_WORD or not word.isprintable()):
            raise InputError(
                f"{path}: {KEY}: {name}: no printable text of {MAX_WORD} at most; export the adapter again"
            )
    return manifest


def _integer(digits: str) -> int:
    if len(digits) > 19:
        raise ValueError(f"an integer of {len(digits)} digits")
    return int(digits)


def _constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _check_depth(value: Any) -> None:
    """Also that every text can be written: JSON can escape half of a character."""
    level = [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below += [*item, *item.values()]
            elif isinstance(item, list):
                below += item
            elif isinstance(item, str):
                item.encode()
        if not below:
            return
        level = below
    raise ValueError("too deeply nested")
