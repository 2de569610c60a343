"""The chat format of a GGUF: its own record, its chat template, or Mistral's where it says nothing."""

from dataclasses import replace

from candletune.base.chat import ChatFormat
from candletune.base.chat_template import ChatFacts, chat_of
from candletune.errors import InputError
from candletune.gguf.header import Header
from candletune.gguf.llama_vocabulary import LlamaVocabulary

TEMPLATE_KEY = "tokenizer.chat_template"


def gguf_chat(header: Header, vocabulary: LlamaVocabulary, wanted: str) -> tuple[ChatFormat, bool]:
    """The chat format to ask a base (or merged model) in.

    Args:
        header: of the GGUF.
        vocabulary: its tokenizer.
        wanted: `base.chat`.

    Returns:
        The format, and whether the file or the configuration says so; else it is Mistral's by default, and an
        adapter that records another one is believed.

    Raises:
        InputError: see `candletune.base.chat_template.chat_of`; or a damaged record.
    """
    recorded = recorded_chat(header)
    template = header.fields.get(TEMPLATE_KEY)
    control = vocabulary.control()
    facts = ChatFacts(
        name=str(header.path),
        template=template if isinstance(template, str) else None,
        bos=vocabulary.text_of(vocabulary.bos),
        eos=vocabulary.text_of(vocabulary.eos),
        adds_bos=vocabulary.adds_bos,
        control=control,
    )
    if recorded is not None and wanted != "mistral":
        return with_texts(chat_of(facts, "mistral"), recorded, facts.bos), True
    return chat_of(facts, wanted), wanted == "mistral" or facts.template is not None


def recorded_chat(header: Header) -> dict[str, str] | None:
    """The chat that a file's manifest records: `before`, `after`, `end`; None in older files and those of others.

    Raises:
        InputError: the record is damaged.
    """
    stored = header.manifest.chat
    if stored is None:
        return None
    pairs = stored.items() if isinstance(stored, dict) else ()
    texts = {key: text for key, text in pairs if key in ("before", "after", "end") and isinstance(text, str)}
    if len(texts) != 3:
        raise InputError(f"{header.path}: its chat format is damaged; export it again")
    return texts


def with_texts(chat: ChatFormat, texts: dict[str, str], bos: str) -> ChatFormat:
    """The format with other texts around prompt and answer; BOS is counted anew."""
    count = (texts["before"] + texts["after"]).count(bos) if bos else 0
    return replace(chat, before=texts["before"], after=texts["after"], end=texts["end"], bos_tokens=count)
