"""Resolve `base.model` to a local folder: `tiny`, a folder, or a name on the Hugging Face hub."""

from dataclasses import dataclass
from pathlib import Path

from candletune.config import Config
from candletune.console import Reporter
from candletune.errors import InputError
from candletune.prompts.chat import MISTRAL, ChatFormat, Encode
from candletune.runs import read_json, sha256_bytes, sha256_path

TINY = "tiny"
_SENTINEL = "candletune-prompt"


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
        from candletune.training.tiny import ensure_tiny

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


def load_tokenizer(path: Path) -> "Tokenizer":
    """Load a base's tokenizer.

    Raises:
        InputError: it is missing or broken, or has no BOS or EOS.
    """
    from transformers import AutoTokenizer

    try:
        return Tokenizer(AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False), path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: its tokenizer cannot be loaded ({' '.join(str(error).split())[:100]})") from None


class Tokenizer:
    """A Hugging Face tokenizer, reduced to what candletune needs."""

    def __init__(self, inner: object, path: Path) -> None:
        from transformers import PreTrainedTokenizerBase

        assert isinstance(inner, PreTrainedTokenizerBase)  # noqa: S101
        self.inner = inner
        if inner.bos_token_id is None or inner.eos_token_id is None:
            raise InputError(f"{path}: its tokenizer has no BOS or EOS token; use another base model")
        self.bos: int = inner.bos_token_id
        self.eos: int = inner.eos_token_id
        self.pad: int = self._distinct_pad()

    def _distinct_pad(self) -> int:
        """A pad token that is not EOS: a model that never sees EOS supervised never learns to stop."""
        vocabulary = self.inner.get_vocab()
        for token in (self.inner.pad_token, "<pad>", "[PAD]", "<unk>", self.inner.unk_token):
            if token is not None and token in vocabulary and vocabulary[token] not in (self.eos, self.bos):
                return int(vocabulary[token])
        return 0 if self.eos != 0 else 1

    @property
    def encode(self) -> Encode:
        """Text to ids, control tokens parsed, nothing added."""

        def encode(text: str) -> list[int]:
            ids: list[int] = self.inner.encode(text, add_special_tokens=False)
            return ids

        return encode

    def decode(self, ids: list[int]) -> str:
        """Ids to text without control tokens."""
        return str(self.inner.decode(ids, skip_special_tokens=True))


def chat_format(config: Config, tokenizer: Tokenizer) -> ChatFormat:
    """Mistral's `[INST]..[/INST]`, or what the tokenizer's own chat template puts around a prompt.

    Raises:
        InputError: `base.chat = "template"` and the template does not show the prompt once, or there is none.
    """
    control = tuple(dict.fromkeys((*MISTRAL.control, *tokenizer.inner.all_special_tokens)))
    end = tokenizer.inner.eos_token
    if config.base.chat == "mistral":
        return ChatFormat(MISTRAL.before, MISTRAL.after, str(end), control)
    if not tokenizer.inner.chat_template:
        raise InputError(f"{config.base.model}: no chat template; set base.chat = 'mistral' or use another base model")
    text = tokenizer.inner.apply_chat_template(
        [{"role": "user", "content": _SENTINEL}], tokenize=False, add_generation_prompt=True
    )
    before, found, after = str(text).partition(_SENTINEL)
    if not found or _SENTINEL in after:
        raise InputError(
            f"{config.base.model}: its chat template does not show the prompt exactly once; use base.chat = 'mistral'"
        )
    bos = str(tokenizer.inner.bos_token)
    return ChatFormat(before if before.startswith(bos) else bos + before, after, str(end), control)


def base_description(path: Path) -> dict[str, int]:
    """Sizes of a base model from its config.json."""
    shape = read_json(path / "config.json")
    keys = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    return {key: int(shape[key]) for key in keys if key in shape}
