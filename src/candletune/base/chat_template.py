"""A base's chat format, read from its chat template: what stands before and after a prompt, and what ends an answer.

The format is a fact of the base: training, the certificate and llama.cpp all read it from here.
The template is Jinja2 from a file of unknown origin, so it runs in Transformers' sandbox, on two sentinels only.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from candletune.base.chat import ChatFormat, mistral_chat
from candletune.errors import InputError

_PROMPT, _ANSWER = "candletune-prompt", "candletune-answer"


@dataclass(frozen=True, slots=True)
class ChatFacts:
    """What a tokenizer contributes to its base's chat.

    Attributes:
        name: of the base, for errors.
        template: the Jinja2 chat template; None where there is none.
        bos: the BOS token as text; empty when there is none.
        eos: the EOS token as text.
        adds_bos: whether the tokenizer puts BOS first by itself.
        control: control tokens as text.
    """

    name: str
    template: str | None
    bos: str
    eos: str
    adds_bos: bool
    control: tuple[str, ...]


def chat_of(facts: ChatFacts, wanted: str) -> ChatFormat:
    """The chat format of a base.

    Args:
        facts: what its tokenizer says.
        wanted: `base.chat`: `auto` (its template, Mistral's format where there is none), `template`, or `mistral`.

    Raises:
        InputError: `template` is wanted and there is none, it cannot be used, or no token ends an answer.
    """
    if wanted == "template" and not facts.template:
        raise InputError(f"{facts.name}: no chat template; set base.chat = 'mistral' or use another base model")
    if wanted == "mistral" or not facts.template:
        chat = mistral_chat(facts.bos, facts.eos, facts.control)
    else:
        chat = chat_of_template(
            facts.template,
            name=facts.name,
            bos=facts.bos,
            eos=facts.eos,
            adds_bos=facts.adds_bos,
            control=facts.control,
        )
    if not chat.end:
        raise InputError(f"{facts.name}: no token ends an answer (no EOS); use another base model")
    return chat


def chat_of_template(
    template: str, *, name: str, bos: str, eos: str, adds_bos: bool, control: Sequence[str]
) -> ChatFormat:
    """The chat format that a template gives.

    Args:
        template: the Jinja2 chat template.
        name: of the base, for errors.
        bos: the BOS token as text; empty when there is none.
        eos: the EOS token as text.
        adds_bos: whether the tokenizer puts BOS first by itself.
        control: control tokens as text.

    Returns:
        The format. BOS stands in it as often as template and tokenizer give it: where the template does not write the
        one that the tokenizer would add, it is put first; nowhere is it added twice.

    Raises:
        InputError: the template cannot be rendered, or does not show prompt and answer exactly once.
    """
    user = {"role": "user", "content": _PROMPT}
    asked = _render(template, [user], name, bos, eos, prompt=True)
    before, marker, after = asked.partition(_PROMPT)
    if not marker or _PROMPT in after:
        raise InputError(f"{name}: its chat template does not show the prompt exactly once; set base.chat = 'mistral'")
    told = _render(template, [user, {"role": "assistant", "content": _ANSWER}], name, bos, eos, prompt=False)
    _, marker, rest = told.partition(_ANSWER)
    if not marker or _ANSWER in rest:
        raise InputError(f"{name}: its chat template does not show the answer exactly once; set base.chat = 'mistral'")
    if adds_bos and bos and not before.startswith(bos):
        before = bos + before
    return ChatFormat(
        before, after, _end(rest, control) or eos, tuple(control), (before + after).count(bos) if bos else 0
    )


def _end(rest: str, control: Sequence[str]) -> str:
    """The control token that closes an answer: the first one behind it, unless other text comes first."""
    marks = sorted(filter(None, control), key=len, reverse=True)
    closing = re.match(r"\s*(" + "|".join(map(re.escape, marks)) + ")", rest) if marks else None
    return closing[1] if closing else ""


def _render(template: str, messages: list[dict[str, str]], name: str, bos: str, eos: str, *, prompt: bool) -> str:
    from jinja2 import TemplateError
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
        rendered = render_jinja_template(
            conversations=[messages],
            chat_template=template,
            add_generation_prompt=prompt,
            bos_token=bos,
            eos_token=eos,
        )[0]
    except (TemplateError, ValueError, TypeError, KeyError, RecursionError) as error:
        reason = " ".join(str(error).split())[:100]
        raise InputError(
            f"{name}: its chat template cannot be rendered ({reason}); set base.chat = 'mistral'"
        ) from None
    return str(rendered[0])
