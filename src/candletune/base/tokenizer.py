"""A base's tokenizer, and the chat format it gives: Hugging Face's of a folder, llama.cpp's of a GGUF."""

import weakref
from pathlib import Path
from typing import Protocol

from candletune.base.chat import MISTRAL, ChatFormat, Encode
from candletune.config import Config
from candletune.errors import InputError
from candletune.runs import RunFolder


class Tokenizer(Protocol):
    """What candletune needs of a tokenizer."""

    @property
    def bos(self) -> int | None:
        """Id of the beginning-of-sequence token, where there is one."""

    @property
    def eos(self) -> int:
        """Id of the end-of-sequence token."""

    @property
    def pad(self) -> int:
        """An id to pad with that is not EOS: a model that never sees EOS supervised never learns to stop."""

    @property
    def encode(self) -> Encode:
        """Text to ids, control tokens parsed, nothing added."""

    def decode(self, ids: list[int]) -> str:
        """Ids to text without control tokens."""

    def chat(self, wanted: str) -> ChatFormat:
        """The base's chat format.

        Args:
            wanted: `base.chat`.

        Raises:
            InputError: see `candletune.base.chat_template.chat_of`.
        """


def load_tokenizer(base: Path) -> Tokenizer:
    """Load a base's tokenizer.

    Args:
        base: Hugging Face folder or GGUF.

    Raises:
        InputError: it is missing or broken, or has no EOS.
    """
    if base.is_file():
        return GgufTokenizer(base)
    from transformers import AutoTokenizer

    try:
        inner = AutoTokenizer.from_pretrained(base, local_files_only=True, trust_remote_code=False)
        return FolderTokenizer(inner, base)
    except (OSError, ValueError) as error:
        raise InputError(f"{base}: its tokenizer cannot be loaded ({' '.join(str(error).split())[:100]})") from None


def served_tokenizer(config: Config, base: Path) -> Tokenizer:
    """The tokenizer that training and certificate use: the served GGUF's, whatever the weights are trained over.

    llama.cpp's splitting rules are not always the authors': words with combining marks (Devanagari, Thai) are other
    pieces under Tekken. What is asked is what is trained.

    Args:
        config: names the base, and the run folder that the `base` stage wrote it into.
        base: folder or GGUF that is trained over, for runs that have no GGUF.

    Raises:
        InputError: see `load_tokenizer`.
    """
    from candletune.base.find import base_gguf

    served = base_gguf(config, RunFolder(config.run.folder))
    return load_tokenizer(served if served.is_file() else base)


def chat_at_hand(config: Config) -> ChatFormat | None:
    """The chat format of the configured base, where that is on this machine already; nothing is fetched or built."""
    from candletune.base.find import base_gguf, given_gguf

    try:
        gguf, folder = base_gguf(config, RunFolder(config.run.folder)), Path(config.base.model).expanduser()
        if not gguf.is_file():
            gguf = given_gguf(config) or gguf
        if not gguf.is_file() and config.base.model == "tiny":
            return MISTRAL
        path = gguf if gguf.is_file() else folder
        known = path.is_file() or (config.base.model and (path / "config.json").is_file())
        return load_tokenizer(path).chat(config.base.chat) if known else None
    except InputError:
        return None  # what is wrong with it the stages that need it say


class FolderTokenizer:
    """Hugging Face's; see `Tokenizer`."""

    def __init__(self, inner: object, path: Path) -> None:
        from transformers import PreTrainedTokenizerBase

        assert isinstance(inner, PreTrainedTokenizerBase)  # noqa: S101
        self.inner, self.path = inner, path
        if inner.eos_token_id is None:
            raise InputError(f"{path}: its tokenizer has no EOS token; use another base model")
        self.bos: int | None = inner.bos_token_id
        self.eos: int = inner.eos_token_id
        self.pad: int = self._distinct_pad()

    def _distinct_pad(self) -> int:
        vocabulary = self.inner.get_vocab()
        for token in (self.inner.pad_token, "<pad>", "[PAD]", "<unk>", self.inner.unk_token):
            if token is not None and token in vocabulary and vocabulary[token] not in (self.eos, self.bos):
                return int(vocabulary[token])
        return 0 if self.eos != 0 else 1

    @property
    def encode(self) -> Encode:
        """See the protocol."""

        def encode(text: str) -> list[int]:
            ids: list[int] = self.inner.encode(text, add_special_tokens=False)
            return ids

        return encode

    def decode(self, ids: list[int]) -> str:
        """See the protocol."""
        return str(self.inner.decode(ids, skip_special_tokens=True))

    def chat(self, wanted: str) -> ChatFormat:
        """See the protocol."""
        from candletune.base.chat_template import ChatFacts, chat_of

        inner = self.inner
        template = inner.chat_template
        if isinstance(template, dict):  # several by name; a chat without tools uses the default one
            template = template.get("default")
        marks = (token.content for token in inner.added_tokens_decoder.values() if token.special)
        facts = ChatFacts(
            name=str(self.path),
            template=template,
            bos=str(inner.bos_token) if self.bos is not None else "",
            eos=str(inner.eos_token),
            adds_bos=self.bos is not None and inner.encode("")[:1] == [self.bos],
            control=tuple(dict.fromkeys((*inner.all_special_tokens, *marks))),
        )
        return chat_of(facts, wanted)


class GgufTokenizer:
    """llama.cpp's own of a GGUF, so that training and serving cannot differ; see `Tokenizer`."""

    def __init__(self, path: Path) -> None:
        from candletune.gguf.header import read_header
        from candletune.gguf.llama_vocabulary import VocabularyOnly

        self._header = read_header(path)
        only = VocabularyOnly(path)
        weakref.finalize(self, only.close)
        self._vocabulary = only.vocabulary
        if self._vocabulary.eos is None:
            raise InputError(f"{path}: its tokenizer has no EOS token; use another base model")
        self.bos: int | None = self._vocabulary.bos
        self.eos: int = self._vocabulary.eos
        used = (self.bos, self.eos)
        ids = range(self._vocabulary.size)
        self.pad: int = next(token for token in ids if token not in used and not self._vocabulary.ends(token))

    @property
    def encode(self) -> Encode:
        """See the protocol."""

        def encode(text: str) -> list[int]:
            return self._vocabulary.encode(text)  # keeps this object, and with it llama.cpp's vocabulary

        return encode

    def decode(self, ids: list[int]) -> str:
        """See the protocol."""
        return self._vocabulary.decode(ids)

    def chat(self, wanted: str) -> ChatFormat:
        """See the protocol."""
        from candletune.base.gguf_chat import gguf_chat

        return gguf_chat(self._header, self._vocabulary, wanted)[0]
