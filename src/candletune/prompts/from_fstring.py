"""A trader's f-string as a template: the same text, with raw values and Python's own format specifications.

What an f-string computes is translated expression by expression, and what cannot be is refused with its line. Whether
the result is right is not a matter of trust: `candletune template check --samples` compares the bytes.
"""

import ast
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from candletune.errors import InputError
from candletune.fields.registry import KEY_NAMES
from candletune.prompts.nearest import nearest_hint
from candletune.prompts.operations import METHODS

_OPERATORS: Final[Mapping[type[ast.AST], str]] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**",
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=", ast.In: "in",
    ast.NotIn: "not in", ast.And: "and", ast.Or: "or", ast.Not: "not ", ast.USub: "-", ast.UAdd: "+",
}  # fmt: skip
_FUNCTIONS: Final = {"abs": "abs", "len": "length", "float": "float", "int": "int"}
_DEPTH: Final = 8
_WRAPPERS: Final = re.compile(r"\A\s*(?:<s>)?\s*\[INST\]\s*|\s*\[/INST\]\s*\Z")


def template_text(path: Path, *, name: str | None = None, names: Mapping[str, str] | None = None) -> str:
    """The template that says what a file's f-string says.

    Args:
        path: a Python file; it is read, never run.
        name: the variable or function whose f-string it is; none: the only one, or the only one that says `DECISION`.
        names: the file's own names of context keys, such as price -> price_usd.

    Raises:
        InputError: no such file or f-string, or an expression that templates have no words for; names the line.
    """
    try:
        tree = ast.parse(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as Python ({error})") from None
    literal = _chosen(path, tree, name)
    scope = _scope(tree, literal)
    translation = _Translation(path, names or {}, _assigned(scope))
    text = "".join(translation.pieces(literal, 0))
    if any(_is_dedent(node, literal) for node in ast.walk(tree)):
        text = textwrap.dedent(text)
    return _WRAPPERS.sub("", text).strip() + "\n"


class _Translation:
    """Python expressions in the words of templates."""

    def __init__(self, path: Path, names: Mapping[str, str], assigned: Mapping[str, ast.expr | None]) -> None:
        self._path, self._names, self._assigned = path, names, assigned

    def pieces(self, text: ast.JoinedStr, depth: int) -> Iterator[str]:
        """The template's text, part by part."""
        for part in text.values:
            if isinstance(part, ast.Constant):
                yield re.sub(r"\{(?=[{%#]|\Z)", "{{ '{' }}", str(part.value))
            elif isinstance(part, ast.FormattedValue):
                yield from self._value(part, depth)

    def _value(self, part: ast.FormattedValue, depth: int) -> Iterator[str]:
        if part.conversion not in (-1, ord("s")):
            raise self._refusal(part.value, "!r, !a and = have no counterpart in templates")
        inner = self._assigned.get(part.value.id) if isinstance(part.value, ast.Name) else None
        if isinstance(inner, ast.JoinedStr) and part.format_spec is None and depth < _DEPTH:
            yield from self.pieces(inner, depth + 1)
            return
        value = self.expression(part.value, depth)
        if part.format_spec is None:
            yield f"{{{{ {value} }}}}"
            return
        spec = part.format_spec.values if isinstance(part.format_spec, ast.JoinedStr) else []
        if len(spec) != 1 or not isinstance(spec[0], ast.Constant):
            raise self._refusal(part.value, "a format that is itself computed has no counterpart in templates")
        yield f"{{{{ {value}|fmt({spec[0].value!r}) }}}}"

    def expression(self, node: ast.expr, depth: int) -> str:
        """One expression, in parentheses where it needs them."""
        if depth > _DEPTH:
            raise self._refusal(node, "it is built from too many others")
        if isinstance(node, ast.Constant) and isinstance(node.value, str | int | float | None):
            return repr(node.value).lower() if node.value is None or isinstance(node.value, bool) else repr(node.value)
        if isinstance(node, ast.Tuple | ast.List) and all(isinstance(part, ast.Constant) for part in node.elts):
            return f"[{', '.join(self.expression(part, depth) for part in node.elts)}]"
        if isinstance(node, ast.Name) and node.id in self._assigned:
            value = self._assigned[node.id]
            if value is None:
                raise self._refusal(node, f"{node.id} is given a value more than once, or in a loop")
            return self.expression(value, depth + 1)
        if key := _key_name(node):
            return self._raw(node, key)
        return self._compound(node, depth)

    def _raw(self, node: ast.expr, key: str) -> str:
        name = self._names.get(key, key)
        if name not in KEY_NAMES:
            hint = nearest_hint(name, KEY_NAMES)
            raise self._refusal(node, f"{key} is no key of the context{hint}; say which with --map {key}=KEY")
        default = node.args[1] if isinstance(node, ast.Call) and len(node.args) == 2 else None
        raw = f"raw.{name}"
        return raw if default is None else f"({raw} if {raw} is not none else {self.expression(default, 0)})"

    def _compound(self, node: ast.expr, depth: int) -> str:
        def say(part: ast.expr) -> str:
            return self.expression(part, depth)

        match node:
            case ast.IfExp():
                return f"({say(node.body)} if {say(node.test)} else {say(node.orelse)})"
            case ast.BoolOp():
                return f"({f' {_OPERATORS[type(node.op)]} '.join(map(say, node.values))})"
            case ast.UnaryOp() if type(node.op) in _OPERATORS:
                return f"({_OPERATORS[type(node.op)]}{say(node.operand)})"
            case ast.BinOp() if type(node.op) in _OPERATORS:
                return f"({say(node.left)} {_OPERATORS[type(node.op)]} {say(node.right)})"
            case ast.Compare():
                return f"({say(node.left)}{''.join(self._comparisons(node, depth))})"
            case ast.Subscript(slice=ast.Slice(lower=lower, upper=upper, step=None)):
                bounds = ":".join("" if bound is None else say(bound) for bound in (lower, upper))
                return f"{say(node.value)}[{bounds}]"
            case ast.Subscript(slice=ast.Constant(value=int())):
                return f"{say(node.value)}[{say(node.slice)}]"
            case ast.Call(keywords=[]):
                return self._call(node, depth)
        raise self._refusal(node, "templates have no words for it; compute it before, or write that part by hand")

    def _comparisons(self, node: ast.Compare, depth: int) -> Iterator[str]:
        for operator, right in zip(node.ops, node.comparators, strict=True):
            if isinstance(operator, ast.Is | ast.IsNot) and isinstance(right, ast.Constant) and right.value is None:
                yield " is none" if isinstance(operator, ast.Is) else " is not none"
            elif type(operator) in _OPERATORS:
                yield f" {_OPERATORS[type(operator)]} {self.expression(right, depth)}"
            else:
                raise self._refusal(node, "is compares with None only")

    def _call(self, node: ast.Call, depth: int) -> str:
        arguments = [self.expression(argument, depth) for argument in node.args]
        match node.func:
            case ast.Attribute(attr=method, value=owner) if method in METHODS:
                return f"{self.expression(owner, depth)}.{method}({', '.join(arguments)})"
            case ast.Name(id=function) if function in _FUNCTIONS and len(arguments) == 1:
                return f"({arguments[0]})|{_FUNCTIONS[function]}"
            case ast.Name(id="round") if len(arguments) == 2:
                return f"({arguments[0]})|round({arguments[1]})"
        raise self._refusal(node, "templates cannot call it; methods of texts, abs, len, round(x, digits) they can")

    def _refusal(self, node: ast.expr, why: str) -> InputError:
        return InputError(f"{self._path}: line {node.lineno}: {{{ast.unparse(node)[:60]}}} cannot be translated: {why}")


def _key_name(node: ast.expr) -> str | None:
    """The key that an expression reads: `rsi`, `ctx["rsi"]`, `ctx.rsi`, `ctx.get("rsi", 0)`."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Subscript(slice=ast.Constant(value=str(name))):
            return name
        case ast.Call(func=ast.Attribute(attr="get"), args=[ast.Constant(value=str(name)), *_], keywords=[]):
            return name
    return None


def _chosen(path: Path, tree: ast.Module, name: str | None) -> ast.JoinedStr:
    """The f-string that is meant, never one inside another."""
    nested = {
        id(inner)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.JoinedStr)
        for inner in ast.walk(outer)
        if inner is not outer
    }
    where = _owned(tree, name) if name is not None else [tree]
    if not where:
        raise InputError(f"{path}: no variable or function {name}; check --name")
    texts = [
        node for part in where for node in ast.walk(part) if isinstance(node, ast.JoinedStr) and id(node) not in nested
    ]
    demanding = [text for text in texts if "DECISION" in ast.unparse(text)]
    for candidates in (texts, demanding):
        if len(candidates) == 1:
            return candidates[0]
    lines = ", ".join(str(text.lineno) for text in texts)
    raise InputError(
        f"{path}: {f'f-strings on lines {lines}' if texts else 'no f-string'}; "
        "name the variable or function of the prompt with --name (the prompt must be one f-string)"
    )


def _owned(tree: ast.Module, name: str) -> list[ast.AST]:
    owned: list[ast.AST] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            owned.append(node)
        elif isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            owned.append(node.value)
    return owned


def _scope(tree: ast.Module, text: ast.JoinedStr) -> ast.AST:
    """The innermost function that holds the f-string, or the module."""
    functions = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and any(part is text for part in ast.walk(node))
    ]
    return functions[-1] if functions else tree


def _assigned(scope: ast.AST) -> dict[str, ast.expr | None]:
    """Names the scope gives a value, and that value; None where it does so more than once, or other than by `=`."""
    values: dict[str, ast.expr | None] = {}
    simple = {
        id(node.targets[0]): node.value
        for node in ast.walk(scope)
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name)
    }
    for node in ast.walk(scope):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            values[node.id] = None if node.id in values else simple.get(id(node))
    return values


def _is_dedent(node: ast.AST, text: ast.JoinedStr) -> bool:
    return (
        isinstance(node, ast.Call)
        and ast.unparse(node.func).split(".")[-1] == "dedent"
        and any(part is text for argument in node.args for part in ast.walk(argument))
    )
