"""The prompt template: one renderer for dataset, training, serving and replay. Its hash travels with everything."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from candletune.errors import InputError
from candletune.fields.registry import EXAMPLE, RAW_NAMES, TEMPLATE_NAMES
from candletune.hashes import sha256_bytes
from candletune.prompts.context import Context, display_fields, raw_values
from candletune.prompts.language import RAW, Program, line_of
from candletune.prompts.nearest import near_names, nearest_hint
from candletune.prompts.operations import TemplateProblem

PACKAGED = "trader.j2"
REQUIRED = ("ticker", "price_usd", "rsi")
"""Fields every template must show: without them a prompt says nothing about the row."""
DEMAND = "DECISION:"
_CONTROL = re.compile(
    r"\[/?INST\]|</?s>|<(?:unk|pad|bos|eos)>|<<?/?SYS>>?|<(?:start|end)_of_turn>|<[|｜][^|｜>\s]*[|｜]>"
)
_SINGLE_BRACES = re.compile(r"\{\s*(\w+)\s*(?:![rsa])?(?::[^{}\n]*)?\}")


@dataclass(frozen=True)
class Template:
    """A Jinja2 template of the language in `prompts/language.py`.

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
    def program(self) -> Program:
        """The text, checked and compiled.

        Raises:
            InputError: it is no template, or does what templates may not.
        """
        try:
            return Program(self.text)
        except TemplateProblem as problem:
            raise InputError(f"{self._place(problem.line)}: {str(problem)[:300]}; mend the template") from None

    @cached_property
    def shown_keys(self) -> frozenset[str]:
        """Context keys of the fields it shows."""
        fields = [TEMPLATE_NAMES[name] for name in self.program.names if name in TEMPLATE_NAMES]
        fields += [RAW_NAMES[name] for name in self.program.raw_names if name in RAW_NAMES]
        return frozenset(key.name for field in fields for key in field.keys)

    def visible(self, context: Mapping[str, Any]) -> Context:
        """The part of a context that the prompt shows: a reason may speak of nothing else."""
        return {name: value for name, value in context.items() if name in self.shown_keys}

    def render(self, context: Mapping[str, Any]) -> str:
        """The user content for a context (the Signal contract's keys): no `[INST]`, no BOS, no trailing newline.

        Raises:
            InputError: the template fails on the context; names the line.
        """
        try:
            raw = raw_values(context) if self.program.raw_names else {}
            return self.program.render({**display_fields(context), RAW: raw}).strip()
        except InputError:
            raise
        except Exception as error:
            raise InputError(self._failure(error, context)) from None

    def _place(self, line: int | None) -> str:
        return self.name if line is None else f"{self.name}: line {line}"

    def _failure(self, error: Exception, context: Mapping[str, Any]) -> str:
        """Why rendering failed, on which line, and what to write instead."""
        line = line_of(error)
        source = "" if line is None else self.text.splitlines()[line - 1]
        reason = f"{self._place(line)}: cannot be rendered ({' '.join(str(error).split())[:200]})"
        if isinstance(error, TemplateProblem):
            return f"{reason}; mend the template"
        raw = raw_values(context)
        missing = [name for name in re.findall(r"\braw\.(\w+)", source) if name in raw and raw[name] is None]
        if missing:
            return f"{reason}; the context has no {missing[0]}: raw.{missing[0]}|fmt('.2f') then says N/A"
        words = re.findall(r"(?<![.\w])\w+", source)
        if numbers := [name for name in words if name in TEMPLATE_NAMES and isinstance(EXAMPLE.get(name), float)]:
            return f"{reason}; {numbers[0]} is a formatted text: take the number, raw.{numbers[0]}"
        return f"{reason}; mend the template"


def packaged_path() -> Path:
    """Where the packaged template lies."""
    return Path(__file__).parent / "templates" / PACKAGED


def load_template(path: Path | None = None) -> Template:
    """The user's template, or the packaged one; unknown and missing fields are errors.

    Raises:
        InputError: no such file, a syntax error, an unknown field, a required field missing, a control token, or
            nothing that demands a decision.
    """
    if path is None:
        return _packaged()
    try:
        # Windows' editors begin a file with a byte order mark, which is no part of the prompt.
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: template cannot be read ({error}); check prompt.template") from None
    return parse_template(str(path), text)


def parse_template(name: str, text: str) -> Template:
    """A template of this text, checked.

    Raises:
        InputError: see `load_template`; `name` begins the message.
    """
    template = Template(name, text)
    _check_names(template)
    if token := _CONTROL.search(text):
        raise InputError(f"{name}: carries the control token {token[0]}; the chat format is added around the template")
    prompt = template.render(EXAMPLE)
    if token := _CONTROL.search(prompt):
        raise InputError(f"{name}: writes the control token {token[0]}; the chat format is added around the template")
    if DEMAND not in prompt:
        raise InputError(
            f"{name}: never demands a decision; end it with 'Answer with exactly one line in this format:' and "
            f"'{DEMAND} [BUY/SELL/HOLD] - [reason]'"
        )
    return template


def _check_names(template: Template) -> None:
    """Refuse names that no field has, single braces, and a template that does not show the row."""
    program, path = template.program, template.name
    _check_braces(template)
    for name in sorted(program.raw_names - set(RAW_NAMES)):
        raise InputError(
            f"{path}: unknown raw value {_named([name])}{nearest_hint(name, RAW_NAMES)}; "
            f"known: {', '.join(sorted(RAW_NAMES))}"
        )
    if unknown := sorted(program.names - set(TEMPLATE_NAMES)):
        known = ", ".join(sorted(TEMPLATE_NAMES))
        hint = nearest_hint(unknown[0], TEMPLATE_NAMES)
        raise InputError(f"{path}: unknown field {_named(unknown)}{hint}; known fields: {known}")
    if missing := [name for name in REQUIRED if name not in program.names | program.raw_names]:
        raise InputError(f"{path}: the template never shows {', '.join(missing)}; add them")


def _named(names: Sequence[str]) -> str:
    """Names out of a template, for a message of one line."""
    lines = (" ".join(name.split()) for name in names[:5])
    shown = [name if len(name) <= 40 else f"{name[:40]}..." for name in lines]
    return ", ".join(shown) + (", ..." if len(names) > 5 else "")


def _check_braces(template: Template) -> None:
    for start, literal in template.program.literals:
        for match in _SINGLE_BRACES.finditer(literal):
            name = match[1]
            near = [name] if name in TEMPLATE_NAMES else near_names(name, TEMPLATE_NAMES)
            if near:
                line = start + literal.count("\n", 0, match.start())
                raise InputError(
                    f"{template.name}: line {line} has {_named([match[0]])}, which stays as it is; a field is written "
                    f"{{{{ {near[0]} }}}}, with two braces"
                )


@lru_cache(maxsize=1)
def _packaged() -> Template:
    return Template(PACKAGED, packaged_path().read_text(encoding="utf-8"))
