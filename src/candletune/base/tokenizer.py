"""A base's tokenizer, and the chat format its template gives."""

from pathlib import Path

from candletune.base.chat import ChatFormat, Encode
from candletune.config import Config
from candletune.errors import InputError


def load_tokenizer(path: Path) -> "Tokenizer":
    """Load a base's tokenizer.

    Raises:
        InputError: it is missing or broken, or has no EOS.
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
        if inner.eos_token_id is None:
            raise InputError(f"{path}: its tokenizer has no EOS token; use another base model")
        self.bos: int | None = inner.bos_token_id
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
    """The base's chat format, as `base.chat` wants it.

    Raises:
        InputError: see `candletune.base.chat_template.chat_of`.
    """
    from candletune.base.chat_template import ChatFacts, chat_of

    inner = tokenizer.inner
    template = inner.chat_template
    if isinstance(template, dict):  # several by name; a chat without tools uses the default one
        template = template.get("default")
    marks = (token.content for token in inner.added_tokens_decoder.values() if token.special)
    facts = ChatFacts(
        name=config.base.model,
        template=template,
        bos=str(inner.bos_token) if tokenizer.bos is not None else "",
        eos=str(inner.eos_token),
        adds_bos=tokenizer.bos is not None and inner.encode("")[:1] == [tokenizer.bos],
        control=tuple(dict.fromkeys((*inner.all_special_tokens, *marks))),
    )
    return chat_of(facts, config.base.chat)
