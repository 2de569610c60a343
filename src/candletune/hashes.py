"""Content hashes of files, folders and values."""

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any


def sha256_bytes(data: bytes) -> str:
    """Hex SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def sha256_path(path: Path) -> str:
    """Hex SHA-256 of a file's bytes, or of a folder's relative names and file hashes (hidden files left out)."""
    if path.is_dir():
        digest = hashlib.sha256()
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            name = file.relative_to(path)
            if not any(part.startswith(".") for part in name.parts):
                digest.update(f"{name.as_posix()}\0{sha256_path(file)}\n".encode())
        return digest.hexdigest()
    state = path.stat()
    return _sha256_file(path.resolve(), state.st_size, state.st_mtime_ns, state.st_ino)


@lru_cache(maxsize=4096)
def _sha256_file(path: Path, size: int, mtime_ns: int, inode: int) -> str:
    """Cached by what changes when a file is rewritten, since a base model is gigabytes and several stages read it."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fingerprint(value: Any) -> str:
    """Hex SHA-256 of a JSON-able value in canonical form."""
    return sha256_bytes(json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode())
