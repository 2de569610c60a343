"""A base's tokenizer, and the chat format its template gives."""

from pathlib import Path

from candletune.base.chat import MISTRAL, ChatFormat, Encode
from candletune.config import Config
from candletune.errors import InputError

_SENTINEL = "candletune-prompt"


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
