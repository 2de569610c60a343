"""Checks of the GGUF that serves: a whole model, and the one that is trained."""

from collections.abc import Iterator

from candletune.base.chat import shown
from candletune.base.find import given_gguf
from candletune.config import Config
from candletune.fields.registry import EXAMPLE
from candletune.gguf.header import Header, read_header
from candletune.gguf.whole_models import rounded_twice
from candletune.preflight.findings import Finding, check
from candletune.prompts.template import load_template
from candletune.stages.needs import KnownBase, known_source


@check("base.gguf", "base", "train", "export", "verify", "replay")
def base_gguf(config: Config) -> Iterator[Finding]:
    """The GGUF that will serve: a whole model, of the sizes that are trained."""
    path = given_gguf(config)
    if path is None:
        return
    header = read_header(path)
    if header.is_adapter:
        text = f"{path}: is a LoRA adapter, not a base model; set base.gguf to the base model's GGUF"
        yield Finding("problem", "base.gguf", text)
        return
    if config.base.serve_type and (reason := rounded_twice(header, config.base.serve_type)):
        yield Finding("problem", "base.serve_type", f"{path}: {reason}", exit_code=2)
        return
    known = None if config.base.is_gguf else known_source(config)
    unlike = "" if known is None or known.path is None else _unlike(header, known)
    if unlike:
        text = f"{path}: {unlike}; base.gguf and base.model must be one model"
        yield Finding("problem", "base.gguf", text)
    else:
        yield Finding("ok", "base.gguf", f"{path}: {path.stat().st_size / 2**30:.1f} GiB")


def _unlike(header: Header, base: KnownBase) -> str:
    architecture = header.fields.get("general.architecture")
    if architecture != base.shape.architecture.gguf:
        return f"its architecture is {architecture}, base.model's is {base.shape.architecture.gguf}"
    for key, wanted in (
        ("embedding_length", base.shape.hidden),
        ("block_count", base.shape.layers),
        ("feed_forward_length", base.shape.feed_forward),
    ):
        have = header.fields.get(f"{architecture}.{key}")
        if have is not None and have != wanted:
            return f"its {key} is {have}, base.model's is {wanted}"
    return ""


@check("tokens of base.gguf", "train", "verify")
def served_tokens(config: Config) -> Iterator[Finding]:
    """Where a folder and a GGUF are named, both must ask in one chat and read a prompt into the same ids."""
    served = given_gguf(config)
    if config.base.is_gguf or config.base.model == "tiny" or served is None:
        return
    folder = known_source(config).path
    if folder is None or not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
        return
    header = read_header(served)
    if header.is_adapter or "tokenizer.ggml.tokens" not in header.fields:
        return  # said by the check of base.gguf, or llama.cpp says so
    from candletune.base.gguf_chat import TEMPLATE_KEY, recorded_chat
    from candletune.base.tokenizer import load_tokenizer

    ours, theirs = load_tokenizer(folder), load_tokenizer(served)
    chat, other = ours.chat(config.base.chat), theirs.chat(config.base.chat)
    says_chat = TEMPLATE_KEY in header.fields or recorded_chat(header) is not None
    if says_chat and chat.texts != other.texts:
        text = (
            f"{served}: is asked in the chat {shown(other.texts)}, base.model's is {shown(chat.texts)}; base.gguf and "
            "base.model must be one model"
        )
        yield Finding("problem", "base.gguf", text)
        return
    prompt = chat.prompt_text(load_template(config.prompt.template).render(EXAMPLE))
    if ours.encode(prompt) != theirs.encode(prompt):
        text = f"{served}: reads a prompt into other tokens than base.model; base.gguf and base.model must be one model"
        yield Finding("problem", "base.gguf", text)
