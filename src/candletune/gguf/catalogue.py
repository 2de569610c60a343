"""Versions of exported files: a file is never overwritten by a different one."""

from pathlib import Path
from typing import Any

from candletune.files import move, read_json, write_json
from candletune.hashes import sha256_path

CATALOGUE = "catalogue.json"


def keep_older(target: Path, newer: Path) -> Path | None:
    """Before `newer` takes `target`'s place: rename a different older file to `<stem>.<8 hex digits of its hash>.gguf`.

    Returns:
        The older version's new path, or None when there was none or it is the same.
    """
    if not target.exists():
        return None
    digest = sha256_path(target)
    if digest == sha256_path(newer):
        return None
    kept = target.with_name(f"{target.stem}.{digest[:8]}{target.suffix}")
    move(target, kept)
    return kept


def record(folder: Path, entry: dict[str, Any]) -> None:
    """Add an export to the folder's catalogue (newest last); an entry of the same hash is replaced."""
    entries = [old for old in read_catalogue(folder) if old["sha256"] != entry["sha256"]]
    write_json(folder / CATALOGUE, {"version": 1, "files": [*entries, entry]})


def read_catalogue(folder: Path) -> list[dict[str, Any]]:
    """The exports of a folder, oldest first, each with the name its file has now."""
    path = folder / CATALOGUE
    if not path.exists():
        return []
    entries: list[dict[str, Any]] = read_json(path)["files"]
    for entry in entries:
        current = folder / entry["file"]
        kept = current.with_name(f"{current.stem}.{entry['sha256'][:8]}{current.suffix}")
        if kept.exists():
            entry["file"] = kept.name
    return entries
