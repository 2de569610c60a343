"""Resolve the base to what is on this machine: a folder (`tiny`, one's own, the hub's), or a GGUF."""

from dataclasses import dataclass
from pathlib import Path

from candletune.base.packaged import PACKAGED, packaged_gguf
from candletune.config import Config
from candletune.console import Reporter
from candletune.errors import InputError
from candletune.gguf.shape import base_shape
from candletune.hashes import sha256_bytes, sha256_path
from candletune.model_shape import ModelShape

TINY = "tiny"


@dataclass(frozen=True, slots=True)
class Base:
    """A base model on disk.

    Attributes:
        path: folder with config.json, safetensors and tokenizer; or a GGUF, which holds all of that.
        name: as configured; a GGUF's file name where it has no other.
        sha256: of the GGUF; of a folder's weights, configuration and tokenizer.
    """

    path: Path
    name: str
    sha256: str

    @property
    def shape(self) -> ModelShape:
        """Its sizes."""
        return base_shape(self.path)


def served_gguf(config: Config) -> Path | None:
    """The base's GGUF where one is given (`base.gguf`, a packaged base); None where `export` writes it.

    Raises:
        InputError: a packaged base is not installed.
    """
    if config.base.gguf is not None:
        return config.base.gguf
    return packaged_gguf(config.base.model) if config.base.model in PACKAGED else None


def trained_gguf(config: Config) -> Path | None:
    """The GGUF that training works on; None where `base.model` is trained in another form.

    Raises:
        InputError: a packaged base is not installed.
    """
    return served_gguf(config) if config.trains_over_gguf else None


def base_files(config: Config) -> dict[str, Path]:
    """What a stage that reads the trained base depends on, by configuration key: its folder or GGUF; none: the hub's.

    Raises:
        InputError: a packaged base is not installed.
    """
    gguf = trained_gguf(config)
    if gguf is not None:
        return {"base.gguf": gguf}
    folder = Path(config.base.model).expanduser()
    return {"base.model": folder} if folder.is_dir() else {}


def resolve_base(config: Config, reporter: Reporter) -> Base:
    """The base that is trained; builds the tiny one, downloads a hub model (safetensors and text files only).

    Raises:
        InputError: no such folder, file or model, gated without access, no network, or no safetensors weights.
    """
    name = config.base.model
    gguf = trained_gguf(config)
    if gguf is not None:
        if not gguf.is_file():
            raise InputError(f"{gguf}: no such file; check base.gguf")
        return Base(gguf, name or gguf.name, sha256_path(gguf))
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
