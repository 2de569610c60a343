"""What a prompt template can do with values: filters, methods of texts and operators, each bounded.

Every operation that makes a text from others checks the size of its result first, so that no template can run for long
or grow without bound.
"""

import operator
import re
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from jinja2 import Undefined
from jinja2.filters import FILTERS as JINJA_FILTERS

TEXT_LIMIT: Final = 20_000
"""Characters of a prompt, and of any text made on the way to it."""
LOOP_LIMIT: Final = 20
NUMBER_LIMIT: Final = 10**18
_POWER_LIMIT: Final = 16
_WIDTH: Final = re.compile(r"\d{4,}")
_PERCENT: Final = re.compile(r"%[^a-zA-Z%]*[a-zA-Z%]")


class TemplateProblem(ValueError):
    """What is wrong in a template, in words for its author, and on which line when that is known."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


def sized(length: int) -> None:
    """Refuse a text of so many characters.

    Raises:
        TemplateProblem: it would be too long.
    """
    if length > TEXT_LIMIT:
        raise TemplateProblem(f"makes a text of {length:,} characters, of at most {TEXT_LIMIT:,}")


def scalar(value: Any) -> Any:
    """A text, number, flag or None; nothing else can be printed."""
    if isinstance(value, Undefined):
        return str(value)  # raises, naming what is undefined, but for an inline if without else
    if not isinstance(value, str | int | float | bool | None):
        raise TemplateProblem(f"prints a {type(value).__name__}; join it, or take one of its elements")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a text, got {type(value).__name__}")
    return value


def _percent(text: str, values: Any) -> str:
    """`text % values`, with widths and precisions of at most three digits."""
    for spec in _PERCENT.findall(text):
        if "*" in spec or _WIDTH.search(spec):
            raise TemplateProblem(f"the format {spec[:20]!r} is wider than 999 characters")
    for value in values if isinstance(values, tuple) else (values,):
        scalar(value)
    result = str(text % values)
    sized(len(result))
    return result


def _percent_filter(text: Any, *values: Any) -> str:
    return _percent(_text(text), tuple(values))


def _brace_format(text: str, *values: Any, **named: Any) -> str:
    """`text.format(...)` without attributes, elements and nested specifications."""
    for _, name, spec, _ in string.Formatter().parse(text):
        if name and re.search(r"[.\[]", name):
            raise TemplateProblem(f"the format field {name[:20]!r} reaches into a value; give that value itself")
        if spec and (_WIDTH.search(spec) or "{" in spec):
            raise TemplateProblem(f"the format {spec[:20]!r} is wider than 999 characters or nested")
    for value in (*values, *named.values()):
        scalar(value)
    result = text.format(*values, **named)
    sized(len(result))
    return result


def fmt(value: Any, spec: str = "", missing: str = "N/A") -> str:
    """A raw value by Python's format specification, as an f-string would; `missing` when it is None."""
    if value is None:
        return missing
    if _WIDTH.search(spec):
        raise TemplateProblem(f"the format {spec[:20]!r} is wider than 999 characters")
    return format(scalar(value), spec)


def _round(value: float, precision: int = 0) -> float:
    return round(value, max(-15, min(15, precision)))


def join(values: Sequence[Any], separator: str = "") -> str:
    """The values' texts with the separator between them."""
    texts = [str(scalar(value)) for value in values]
    sized(sum(map(len, texts)) + len(separator) * len(texts))
    return separator.join(texts)


def _replace(text: str, old: str, new: str) -> str:
    sized(len(text) + _text(text).count(old) * len(new))
    return text.replace(old, new)


def each(values: Any) -> Any:
    """What a loop may go over: a short list or text."""
    if not isinstance(values, str | tuple | list) or len(values) > LOOP_LIMIT:
        raise TemplateProblem(f"loops over something else than a list or text of at most {LOOP_LIMIT} elements")
    return values


def _plain_method(name: str) -> Callable[..., Any]:
    """A method of texts whose result is no longer than the text."""

    def call(text: Any, *arguments: Any) -> Any:
        return getattr(_text(text), name)(*arguments)

    return call


_PLAIN: Final = (
    "strip",
    "lstrip",
    "rstrip",
    "lower",
    "upper",
    "title",
    "capitalize",
    "startswith",
    "endswith",
    "split",
)
METHODS: Final[Mapping[str, Callable[..., Any]]] = {
    **{name: _plain_method(name) for name in _PLAIN},
    "join": lambda separator, values: join(values, _text(separator)),
    "replace": _replace,
    "format": lambda text, *values, **named: _brace_format(_text(text), *values, **named),
}
FILTERS: Final[Mapping[str, Callable[..., Any]]] = {
    **{
        name: JINJA_FILTERS[name]
        for name in ("abs", "float", "int", "default", "d", "length", "count", "first", "last")
    },
    **{name: _plain_method(name) for name in ("upper", "lower", "title", "capitalize")},
    "trim": _plain_method("strip"),
    "fmt": fmt,
    "format": _percent_filter,
    "round": _round,
    "join": join,
    "replace": _replace,
}


def bounded(symbol: str, left: Any, right: Any) -> Any:
    """`left symbol right`, refused before it is computed when the result could be large."""
    long = (str, list, tuple)
    if symbol == "%" and isinstance(left, str):
        return _percent(left, right)
    if symbol == "+" and isinstance(left, long) and isinstance(right, long):
        sized(len(left) + len(right))
    if symbol == "*":
        for one, times in ((left, right), (right, left)):
            if isinstance(one, long) and isinstance(times, int):
                sized(len(one) * times)
    if symbol == "**" and (abs(right) > _POWER_LIMIT or abs(left) > NUMBER_LIMIT):
        raise TemplateProblem(f"raises to a power above {_POWER_LIMIT}")
    result = OPERATORS[symbol](left, right)
    if isinstance(result, int) and abs(result) > NUMBER_LIMIT:
        raise TemplateProblem(f"computes a number above {NUMBER_LIMIT:.0e}")
    return result


OPERATORS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
}
