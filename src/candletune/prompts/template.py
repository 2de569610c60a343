"""The prompt template: one renderer for dataset, training, serving and replay. Its hash travels with everything."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, TemplateError, meta
from jinja2 import Template as JinjaTemplate
from jinja2.sandbox import SandboxedEnvironment

from candletune.errors import InputError
from candletune.hashes import sha256_bytes
from candletune.prompts.context import display_fields

PACKAGED = "trader.j2"
REQUIRED = ("ticker", "price_usd", "rsi")
"""Fields every template must show: without them a prompt says nothing about the row."""
_CONTROL = re.compile(r"\[/?INST\]|</?s>|<(?:unk|pad)>")


@dataclass(frozen=True)
class Template:
    """A checked Jinja2 template.

    Attributes:
        name: for messages; the file's name.
        text: the source.
    """

    name: str
    text: str

    @cached_property
    def sha256(self) -> str:
        """Hash of the source text."""
        return sha256_bytes(self.text.encode())

    @cached_property
    def _compiled(self) -> JinjaTemplate:
        return _environment().from_string(self.text)

    def render(self, context: Mapping[str, Any]) -> str:
        """The user content for a context (the Signal contract's keys): no `[INST]`, no BOS, no trailing newline.

        Raises:
            InputError: the context lacks a field or the template fails on it.
        """
        try:
            return self._compiled.render(display_fields(context)).strip()
        except TemplateError as error:
            raise InputError(f"{self.name}: cannot be rendered ({error}); mend the template") from None


def _environment() -> Environment:
    # Plain text, not HTML: escaping would change the prompt. The sandbox keeps a shared template from running code.
    return SandboxedEnvironment(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=False)


def load_template(path: Path | None = None) -> Template:
    """The user's template, or the packaged one; unknown and missing fields are errors.

    Raises:
        InputError: no such file, a syntax error, an unknown field, a required field missing, a control token.
    """
    if path is None:
        return _packaged()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: template cannot be read ({error}); check prompt.template") from None
    known = set(display_fields({}))
    try:
        used = meta.find_undeclared_variables(_environment().parse(text))
    except TemplateError as error:
        raise InputError(f"{path}: not a valid Jinja2 template ({error}); mend that line") from None
    if unknown := sorted(used - known):
        raise InputError(f"{path}: unknown field {', '.join(unknown)}; known fields: {', '.join(sorted(known))}")
    if missing := [name for name in REQUIRED if name not in used]:
        raise InputError(f"{path}: the template never shows {', '.join(missing)}; add them")
    if token := _CONTROL.search(text):
        raise InputError(f"{path}: carries the control token {token[0]}; the chat format is added around the template")
    return Template(str(path), text)


def packaged_path() -> Path:
    """Where the packaged template lies."""
    return Path(__file__).parent / "templates" / PACKAGED


@lru_cache(maxsize=1)
def _packaged() -> Template:
    return Template(PACKAGED, packaged_path().read_text(encoding="utf-8"))
