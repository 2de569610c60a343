"""Resolve `base.model` to a local folder: `tiny`, a folder, or a name on the Hugging Face hub."""

from dataclasses import dataclass
from pathlib import Path

from candletune.config import Config
from candletune.console import Reporter
from candletune.errors import InputError
from candletune.hashes import sha256_bytes, sha256_path

TINY = "tiny"


@dataclass(frozen=True, slots=True)
class Base:
    """A base model on disk.

    Attributes:
        path: folder with config.json, safetensors and tokenizer.
        name: as configured.
        sha256: hash of its weights' index or file and of its configuration and tokenizer.
    """

    path: Path
    name: str
    sha256: str


def resolve_base(config: Config, reporter: Reporter) -> Base:
    """The base model's folder; builds the tiny one, downloads a hub model (safetensors and text files only).

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
