"""Resolve the base to what is on this machine: its GGUF, and the folder (one's own, the hub's) it is made of."""

from dataclasses import dataclass
from pathlib import Path

from candletune.base.packaged import PACKAGED, packaged_gguf
from candletune.config import Config
from candletune.console import Reporter
from candletune.errors import InputError
from candletune.gguf.header import read_header
from candletune.gguf.shape import base_shape, untrainable
from candletune.hashes import sha256_bytes, sha256_path
from candletune.model_shape import ModelShape
from candletune.runs import RunFolder

TINY = "tiny"


@dataclass(frozen=True, slots=True)
class Base:
    """A base model on disk.

    Attributes:
        path: folder with config.json, safetensors and tokenizer; or a GGUF, which holds all of that.
        name: as configured; a GGUF's file name where it has no other.
        sha256: identity of the model: of a folder's weights, configuration and tokenizer; of a GGUF what it says it was
            written from, else its own.
        gguf_sha256: of the GGUF's bytes; None of a folder.
    """

    path: Path
    name: str
    sha256: str
    gguf_sha256: str | None = None

    @property
    def shape(self) -> ModelShape:
        """Its sizes."""
        return base_shape(self.path)


def given_gguf(config: Config) -> Path | None:
    """The base's GGUF where one is given: `base.gguf`, or a packaged base.

    Raises:
        InputError: a packaged base is not installed.
    """
    if config.base.gguf is not None:
        return config.base.gguf
    return packaged_gguf(config.base.model) if config.base.model in PACKAGED else None


def served_gguf(config: Config) -> Path | None:
    """The given GGUF where it is served as it is; None where the `base` stage writes the one that is.

    Raises:
        InputError: a packaged base is not installed.
    """
    return None if config.base.serve_type else given_gguf(config)


def base_gguf(config: Config, run: RunFolder) -> Path:
    """The one GGUF that is served: `base.gguf`, a packaged one, or the one that the `base` stage writes.

    Raises:
        InputError: a packaged base is not installed.
    """
    return served_gguf(config) or run.base_gguf


def served_sha256(config: Config, run: RunFolder) -> str:
    """Hash of `base_gguf`'s bytes."""
    return sha256_path(base_gguf(config, run))


def trains_over_gguf(config: Config) -> bool:
    """Whether training works on the blocks of the served GGUF, rather than on `base.model` in another form.

    Raises:
        InputError: a packaged base is not installed, or `base.gguf` is broken.
    """
    wanted = config.train.quantization
    if config.base.is_gguf or wanted != "auto":
        return config.base.is_gguf or wanted == "gguf"
    if config.train.backend == "unsloth":
        return False
    given = served_gguf(config)
    # What the `base` stage writes can be trained over; of what is not there somebody else complains.
    return given is None or not given.is_file() or untrainable(read_header(given)) is None


def trained_gguf(config: Config) -> Path | None:
    """The GGUF that training works on; None where `base.model` is trained in another form.

    Raises:
        InputError: see `trains_over_gguf`.
    """
    return base_gguf(config, RunFolder(config.run.folder)) if trains_over_gguf(config) else None


def base_files(config: Config) -> dict[str, Path]:
    """What a stage that reads the trained base depends on, by configuration key: its GGUF, or folder; none: the hub's.

    Raises:
        InputError: see `trains_over_gguf`.
    """
    gguf = trained_gguf(config)
    return source_files(config) if gguf is None else {"base.gguf": gguf}


def source_files(config: Config) -> dict[str, Path]:
    """What a stage that reads `base.model` depends on: its folder; none: the tiny one, the hub's."""
    folder = Path(config.base.model).expanduser()
    return {"base.model": folder} if config.base.model and folder.is_dir() else {}


def resolve_base(config: Config, reporter: Reporter) -> Base:
    """The base as it is trained: the served GGUF, or `base.model`.

    Raises:
        InputError: the GGUF is not there; see `resolve_source`.
    """
    gguf = trained_gguf(config)
    if gguf is None:
        return resolve_source(config, reporter)
    if not gguf.is_file():
        remedy = "check base.gguf" if served_gguf(config) else "run `candletune base` first"
        raise InputError(f"{gguf}: no such file; {remedy}")
    digest = sha256_path(gguf)
    return Base(gguf, config.base.model or gguf.name, read_header(gguf).manifest.base_sha256 or digest, digest)


def resolve_source(config: Config, reporter: Reporter) -> Base:
    """`base.model` in safetensors; builds the tiny one, downloads a hub model (safetensors and text files only).

    Raises:
        InputError: no such folder or model, gated without access, no network, or no safetensors weights.
    """
    name = config.base.model
    if name == TINY:
        from candletune.base.tiny import ensure_tiny

        path = ensure_tiny(config, reporter)
    elif Path(name).expanduser().is_dir():
        path = Path(name).expanduser()
    else:
        path = _download(name, config.base.revision)
    return Base(path, name, base_hash(path))


def base_hash(path: Path) -> str:
    """Identity of a base: its configuration, tokenizer and every weight file's bytes.

    Raises:
        InputError: the folder holds no model in safetensors format.
    """
    if not (path / "config.json").is_file():
        raise InputError(f"{path}: no config.json, so not a Hugging Face model folder; check base.model")
    weights = sorted(path.glob("*.safetensors"))
    if not weights:
        raise InputError(f"{path}: no *.safetensors weights; pickled weights are never loaded, convert the model first")
    names = [
        *weights,
        *(path / n for n in ("config.json", "tokenizer.json", "tokenizer.model") if (path / n).is_file()),
    ]
    return sha256_bytes("\n".join(f"{p.name} {sha256_path(p)}" for p in names).encode())


def _download(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    patterns = ["*.json", "*.safetensors", "tokenizer*", "*.model"]
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except GatedRepoError:
        raise InputError(
            f"{name}: gated; accept its licence on huggingface.co/{name}, run `hf auth login`, and try again"
        ) from None
    except RepositoryNotFoundError:
        raise InputError(f"{name}: no such model on the hub (or private without a login); check base.model") from None
    except HFValidationError:
        raise InputError(
            f"{name}: neither a folder nor a hub name; set base.model to a folder, a name, or tiny"
        ) from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        reason = " ".join(str(error).split())[:80]
        raise InputError(
            f"{name}: cannot be downloaded ({reason}); connect once, or set base.model to a folder that has it"
        ) from None
