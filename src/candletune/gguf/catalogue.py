"""Versions of exported files: a file is never overwritten by a different one, and each has a name of its own."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from candletune.files import move, read_json, write_json
from candletune.hashes import sha256_path

CATALOGUE = "catalogue.json"


def versioned_name(path: Path) -> str:
    """What a version of an export is called: `custom-trading-lora-20261125-1a2b3c4d`.

    The file's stem, the day of its export (UTC; where the folder's catalogue does not have it, the day the file was
    written), and the first 8 hex digits of its hash.
    """
    digest = sha256_path(path)
    for entry in _entries(path.parent):
        if entry["sha256"] == digest:
            return _name_of(entry)
    if path.stem.endswith(f"-{digest[:8]}"):
        return path.stem
    return f"{path.stem}-{datetime.fromtimestamp(path.stat().st_mtime, UTC):%Y%m%d}-{digest[:8]}"


def keep_older(target: Path, newer: Path) -> Path | None:
    """Before `newer` takes `target`'s place: give a different older file its versioned name.

    Returns:
        The older version's new path, or None when there was none or it is the same.
    """
    if not target.exists() or sha256_path(target) == sha256_path(newer):
        return None
    kept = target.with_name(versioned_name(target) + target.suffix)
    move(target, kept)
    return kept


def record(folder: Path, entry: dict[str, Any]) -> None:
    """Add an export to the folder's catalogue (newest last).

    An entry of the same hash is replaced, and keeps its first day: the same file keeps its name.
    """
    entries = _entries(folder)
    for old in entries:
        if old["sha256"] == entry["sha256"]:
            entry = entry | {"exported": old["exported"]}
    others = [old for old in entries if old["sha256"] != entry["sha256"]]
    write_json(folder / CATALOGUE, {"version": 1, "files": [*others, entry]})


def read_catalogue(folder: Path) -> list[dict[str, Any]]:
    """The exports of a folder, oldest first, each with the name its file has now."""
    entries = _entries(folder)
    for entry in entries:
        current = folder / entry["file"]
        earlier = f"{current.stem}.{entry['sha256'][:8]}"  # as older versions were named at first
        for name in (_name_of(entry), earlier):
            kept = current.with_name(name + current.suffix)
            if kept.exists():
                entry["file"] = kept.name
    return entries


def versions(folder: Path) -> dict[str, str]:
    """The versioned name of every export of a folder, by its hash."""
    return {entry["sha256"]: _name_of(entry) for entry in _entries(folder)}


def _entries(folder: Path) -> list[dict[str, Any]]:
    path = folder / CATALOGUE
    entries: list[dict[str, Any]] = read_json(path)["files"] if path.exists() else []
    return entries


def _name_of(entry: dict[str, Any]) -> str:
    day = datetime.fromisoformat(entry["exported"])
    return f"{Path(entry['file']).stem}-{day:%Y%m%d}-{entry['sha256'][:8]}"
