"""Models that can be asked: the bare base, a LoRA on it, or a whole merged model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from candletune.errors import InputError
from candletune.hashes import sha256_path

BARE_BASE = "bare base"
ModelKind = Literal["base", "adapter", "merged"]


@dataclass(frozen=True, slots=True)
class Model:
    """A model that can be asked.

    Attributes:
        name: as answers, journals and reports show it.
        path: the GGUF; None for the bare base.
        sha256: the file's hash; None for the bare base.
        kind: `adapter`: a LoRA over the base; `merged`: a model of its own, without an adapter; `base`: no file.
    """

    name: str
    path: Path | None = None
    sha256: str | None = None
    kind: ModelKind = "base"

    def __post_init__(self) -> None:
        if (self.kind == "base") != (self.path is None) or (self.path is None) != (self.sha256 is None):
            raise ValueError(f"a model of kind {self.kind} can't have the file {self.path} ({self.sha256})")


def bare_base(name: str = "") -> Model:
    """The base without an adapter."""
    return Model(name or BARE_BASE)


def model_at(path: Path, name: str = "", *, kind: ModelKind = "adapter") -> Model:
    """The model in a file; its name is the file's unless another is given.

    Raises:
        InputError: there is no such file.
    """
    if not path.is_file():
        what = "adapter; give the path of a LoRA GGUF" if kind == "adapter" else "model; give the path of its GGUF"
        raise InputError(f"{path}: no such {what}")
    return Model(name or path.stem, path, sha256_path(path), kind)
