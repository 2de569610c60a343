"""Titles from strangers, made safe for a prompt."""

import html
import re

HEADLINE_LENGTH = 90
LONGEST = 2_000
"""Characters of a text that are looked at: nested tokens cost the square of them."""
_CONTROL = re.compile(
    r"\[/?[A-Z_][A-Z0-9_]+\]"  # [INST], [/INST], [control_8], [gMASK]
    r"|<{1,2}/?[a-z_][a-z0-9_:▁-]*>{1,2}"  # </s>, <<SYS>>, <start_of_turn>, <seed:eos>
    r"|<0x[0-9A-F]{2}>"  # a byte
    r"|<[|｜][^|｜>]*[|｜]>"  # <|im_end|>, DeepSeek's wide bars
    r"|\[[|@][^|@\]]*[|@]\]"  # [|Human|], [@BOS@]
    r"|\]~!?[a-z]\[|\]~[a-z]\]|\[[a-z]~\[|<\][a-z_]+\[>",  # MiniMax
    re.IGNORECASE,
)
"""The turn markers of any chat, whatever the base's own is."""
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")


def clean_headline(text: str, *, limit: int = HEADLINE_LENGTH) -> str:
    """Text from outside, safe for a prompt: one line, no control tokens, no separator, at most `limit` characters."""
    return shortened(cleaned(text), limit)


def cleaned(text: str) -> str:
    """Text from outside in one line, without control tokens and separators; what lies beyond `LONGEST` is left out."""
    text = text[:LONGEST]
    printable = text if text.isprintable() else "".join(ch if ch.isprintable() else " " for ch in text)
    while (stripped := _CONTROL.sub(" ", printable)) != printable:
        # Removing one token may join the halves of another.
        printable = stripped
    return " ".join(printable.replace("|", "/").split())


def shortened(words: str, limit: int = HEADLINE_LENGTH) -> str:
    """A cleaned text cut behind a word, with dots where something is missing."""
    return words if len(words) <= limit else words[: limit - 3].rsplit(" ", 1)[0] + "..."


def from_html(text: str) -> str:
    """A title of a feed or a news service without the tags and entities (`<b>`, `&amp;`) that some of them leave in."""
    return _TAG.sub(" ", html.unescape(text[:LONGEST]))
