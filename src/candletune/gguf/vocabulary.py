"""Write a tokenizer into a GGUF: byte-level BPE (Tekken, Llama 3, Qwen, SmolLM, GPT-2) and SentencePiece."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from candletune.errors import InputError
from candletune.files import read_json
from candletune.model_shape import ModelShape

_TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PRE_TOKENIZERS = {_TEKKEN: "tekken", _LLAMA3: "llama-bpe", _QWEN2: "qwen2"}
"""Split expressions by the name llama.cpp knows them under."""
_NO_BOS_SIZE = 49152
"""The vocabulary of SmolLM and Granite; llama.cpp's converter knows by it that no BOS is put before a text."""


def add_vocabulary(writer: Any, base: Path, shape: ModelShape) -> None:
    """Write tokens, types, merges, special ids and the chat template.

    Args:
        writer: a `gguf.GGUFWriter`.
        base: Hugging Face folder.
        shape: the base's sizes; ids that the tokenizer does not use are padded.

    Raises:
        InputError: no tokenizer, or a pre-tokenization llama.cpp would not reproduce.
    """
    pre, size = check_vocabulary(base), shape.vocabulary
    if (base / "tokenizer.model").is_file():
        _add_sentencepiece(writer, base, size)
    elif pre is None:
        _add_pieces(writer, base, size)
    else:
        _add_byte_level(writer, base, read_json(base / "tokenizer.json"), size, pre)
    if shape.architecture.gguf == "llama":
        path = base / "tokenizer_config.json"
        space = read_json(path).get("add_prefix_space") if path.is_file() else None
        if space is not None:
            writer.add_add_space_prefix(bool(space))
        if size == _NO_BOS_SIZE:
            writer.add_add_bos_token(False)


def check_vocabulary(base: Path) -> str | None:
    """Refuse a tokenizer that `add_vocabulary` could not write, without reading more than its files.

    Returns:
        llama.cpp's name of a byte-level tokenizer's splitting rule; None for SentencePiece.

    Raises:
        InputError: no tokenizer, of another type, or with a pre-tokenization llama.cpp would not reproduce.
    """
    if (path := base / "tokenizer.model").is_file():
        if find_spec("sentencepiece") is None:
            raise InputError(f"{path}: reading it needs the sentencepiece package; pip install sentencepiece")
        return None
    path = base / "tokenizer.json"
    tokenizer = read_json(path)
    model = tokenizer.get("model", {})
    if model.get("type") != "BPE":
        raise InputError(f"{path}: a {model.get('type')} tokenizer cannot be exported; use llama.cpp's converter")
    return None if model.get("byte_fallback") else pre_tokenizer_name(tokenizer, path)


def pre_tokenizer_name(tokenizer: dict[str, Any], path: Path) -> str:
    """llama.cpp's name of a byte-level tokenizer's splitting rule, from its tokenizer.json (Hugging Face's).

    Raises:
        InputError: it knows none.
    """
    rule = tokenizer.get("pre_tokenizer") or {}
    steps = rule.get("pretokenizers") or [rule]
    for step in steps:
        expression = step.get("pattern", {}).get("Regex") if step.get("type") == "Split" else None
        if expression in PRE_TOKENIZERS:
            return PRE_TOKENIZERS[expression]
    # Without an expression of its own, ByteLevel splits as GPT-2 did; SmolLM and StarCoder set digits apart before.
    kinds = [step.get("type") for step in steps]
    if kinds[-1] == "ByteLevel" and steps[-1].get("use_regex", True) and not steps[-1].get("add_prefix_space"):
        if kinds == ["ByteLevel"]:
            return "gpt-2"
        if kinds == ["Digits", "ByteLevel"] and steps[0].get("individual_digits"):
            return "smollm"
    raise InputError(f"{path}: llama.cpp has no name for its pre-tokenization; use llama.cpp's own converter")


def _add_byte_level(writer: Any, base: Path, tokenizer: dict[str, Any], size: int, pre: str) -> None:
    import gguf

    tokens = [f"[PAD{i}]" for i in range(size)]
    kinds = [int(gguf.TokenType.UNUSED)] * size
    _within(base, max(tokenizer["model"]["vocab"].values()), size)
    for token, number in tokenizer["model"]["vocab"].items():
        tokens[number], kinds[number] = token, int(gguf.TokenType.NORMAL)
    for added in tokenizer.get("added_tokens", []):
        _within(base, added["id"], size)
        text, number = added["content"], added["id"]
        control = added["special"] or _looks_special(text)
        tokens[number] = text if control else text.replace("\u2581", " ")
        kinds[number] = int(gguf.TokenType.CONTROL if control else gguf.TokenType.USER_DEFINED)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    gguf.SpecialVocab(base, load_merges=True, n_vocab=size).add_to_gguf(writer)


def _looks_special(text: str) -> bool:
    """Whether llama.cpp's converter takes an added token for a control token that its tokenizer forgot to mark."""
    if text in ("<pad>", "<mask>", "<2mass>", "[@BOS@]"):
        return True
    marks = (("<|", "|>"), ("<\uff5c", "\uff5c>"), ("<unused", ">"))
    return any(text.startswith(first) and text.endswith(last) for first, last in marks)


def _add_sentencepiece(writer: Any, base: Path, size: int) -> None:
    from gguf import TokenType

    path = base / "tokenizer.model"
    from sentencepiece import SentencePieceProcessor

    pieces = SentencePieceProcessor()
    try:
        pieces.LoadFromFile(str(path))
    except (OSError, RuntimeError) as error:
        raise InputError(f"{path}: no SentencePiece model ({' '.join(str(error).split())[:120]})") from None
    _within(base, pieces.vocab_size() - 1, size)
    tokens = []
    for number in range(pieces.vocab_size()):
        kind = TokenType.NORMAL
        for applies, other in (
            (pieces.IsUnknown, TokenType.UNKNOWN),
            (pieces.IsControl, TokenType.CONTROL),
            (pieces.IsUnused, TokenType.UNUSED),
            (pieces.IsByte, TokenType.BYTE),
        ):
            if applies(number):
                kind = other
                break
        tokens.append((pieces.IdToPiece(number).encode(), pieces.GetScore(number), kind))
    tokens += [(f"[PAD{i}]".encode(), -10_000.0, TokenType.UNUSED) for i in range(len(tokens), size)]
    for number, text, special in _added_tokens(base):
        _within(base, number, size)
        kind = TokenType.CONTROL if special else TokenType.USER_DEFINED
        tokens[number] = (text.encode(), -1000.0, kind)
    _add_scored(writer, base, size, tokens)


def _added_tokens(base: Path) -> list[tuple[int, str, bool]]:
    """(id, text, special) of tokens beside a SentencePiece model, from added_tokens.json and tokenizer_config.json."""
    added = []
    if (path := base / "added_tokens.json").is_file():
        added += [(int(number), str(text), False) for text, number in read_json(path).items()]
    if (path := base / "tokenizer_config.json").is_file():
        for number, token in read_json(path).get("added_tokens_decoder", {}).items():
            special = bool(token.get("special"))
            text = token["content"] if special else token["content"].replace("\u2581", " ")
            added.append((int(number), text, special))
    return added


def _add_pieces(writer: Any, base: Path, size: int) -> None:
    import gguf

    _add_scored(writer, base, size, list(gguf.LlamaHfVocab(base).all_tokens()))


def _add_scored(writer: Any, base: Path, size: int, tokens: list[tuple[bytes, float, Any]]) -> None:
    import gguf

    _within(base, len(tokens) - 1, size)
    tokens += [(f"[PAD{i}]".encode(), -1000.0, gguf.TokenType.UNUSED) for i in range(len(tokens), size)]
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([text for text, _, _ in tokens])
    writer.add_token_scores([score for _, score, _ in tokens])
    writer.add_token_types([int(kind) for _, _, kind in tokens])
    gguf.SpecialVocab(base, n_vocab=size).add_to_gguf(writer)


def _within(base: Path, highest: int, size: int) -> None:
    if highest >= size:
        raise InputError(
            f"{base}: the tokenizer has id {highest}, config.json says vocab_size {size}; mend config.json"
        )
