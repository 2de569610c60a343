"""What a prompt template may say: a small, bounded part of Jinja2.

A template is a file from a person, and sometimes a shared one. It can show fields, choose by them, loop over headlines
and format numbers; it cannot call anything else, and nothing in it can run for long or grow without bound: every
operation that makes a text from others checks the size of its result first, loops are short and at most two deep.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast

from jinja2 import StrictUndefined, TemplateSyntaxError, meta, nodes
from jinja2.environment import Template as CompiledTemplate
from jinja2.sandbox import SandboxedEnvironment
from jinja2.tests import TESTS
from jinja2.visitor import NodeTransformer

from candletune.prompts.operations import (
    FILTERS,
    METHODS,
    OPERATORS,
    TemplateProblem,
    bounded,
    each,
    join,
    scalar,
    sized,
)

SOURCE_LIMIT: Final = 32_768
"""Characters of a template."""
LOOP_DEPTH: Final = 2
RAW: Final = "raw"
"""The name under which a template finds unformatted values."""
_LOOP_NAMES: Final = ("index", "index0", "first", "last", "length")
_STATEMENTS: Final = (nodes.Template, nodes.Output, nodes.TemplateData, nodes.If, nodes.For, nodes.Assign)
_EXPRESSIONS: Final = (
    nodes.Name, nodes.Const, nodes.CondExpr, nodes.Filter, nodes.Test, nodes.Getattr, nodes.Getitem, nodes.Slice,
    nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Neg, nodes.Pos, nodes.Add, nodes.Sub, nodes.Mul,
    nodes.Div, nodes.FloorDiv, nodes.Mod, nodes.Pow, nodes.Concat, nodes.List, nodes.Tuple, nodes.Dict, nodes.Pair,
    nodes.Call, nodes.Keyword,
)  # fmt: skip
_TESTS: Final = (
    "none", "defined", "undefined", "number", "string", "odd", "even", "true", "false", "in",
    "eq", "ne", "lt", "le", "gt", "ge", "equalto", "==", "!=", "<", "<=", ">", ">=",
)  # fmt: skip


class PromptEnvironment(SandboxedEnvironment):
    """Jinja2 with the filters, tests and operators of this module only, and no globals."""

    # Intercepted operators are not folded at compile time, so that the checks see all of them.
    intercepted_binops = frozenset(OPERATORS)

    def __init__(self) -> None:
        # Plain text, not HTML: escaping would change the prompt.
        super().__init__(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=False, finalize=scalar)
        self.globals.clear()
        self.filters = {
            **FILTERS,
            **{f" {name}": method for name, method in METHODS.items()},
            " concat": join,
            " each": each,
        }
        self.tests = {name: TESTS[name] for name in _TESTS}

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Bound every operator."""
        return bounded(operator, left, right)


_ENVIRONMENT: Final = PromptEnvironment()


class _Checker(NodeTransformer):
    """Refuses what is not part of the language, and puts bounded operations in place of the rest.

    The filters it puts in have a blank in their name, which no template can write.
    """

    def __init__(self) -> None:
        self.depth = 0
        self.raw_names: set[str] = set()

    def visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(node, _STATEMENTS + _EXPRESSIONS):
            name = type(node).__name__.lower()
            raise TemplateProblem(
                f"{name} is not part of prompt templates (fields, if, for, set and filters are)", node.lineno
            )
        return super().visit(node, *args, **kwargs)

    def visit_Name(self, node: nodes.Name) -> nodes.Node:
        if node.name == RAW:
            raise TemplateProblem("raw is not a value; name one of its keys, as in raw.rsi", node.lineno)
        if node.name == "self":
            raise TemplateProblem("self is not part of prompt templates", node.lineno)
        return node

    def visit_Filter(self, node: nodes.Filter) -> nodes.Node:
        if node.name not in FILTERS:
            raise TemplateProblem(f"no filter {node.name}; there are {', '.join(sorted(FILTERS))}", node.lineno)
        return self.generic_visit(node)

    def visit_Test(self, node: nodes.Test) -> nodes.Node:
        if node.name not in _TESTS:
            raise TemplateProblem(f"no test {node.name}; there are {', '.join(_TESTS[:10])}", node.lineno)
        return self.generic_visit(node)

    def visit_Getattr(self, node: nodes.Getattr) -> nodes.Node:
        owner = node.node
        if isinstance(owner, nodes.Name) and owner.name == RAW:
            self.raw_names.add(node.attr)
            return node
        if isinstance(owner, nodes.Name) and owner.name == "loop" and node.attr in _LOOP_NAMES:
            return node
        raise TemplateProblem(f"no attribute {node.attr}; raw.<key> and loop.index are the only ones", node.lineno)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        owner = node.node
        if isinstance(owner, nodes.Name) and owner.name == RAW:
            if not isinstance(node.arg, nodes.Const) or not isinstance(node.arg.value, str):
                raise TemplateProblem("raw[...] takes one key in quotes, as in raw['rsi']", node.lineno)
            self.raw_names.add(node.arg.value)
            return node
        return self.generic_visit(node)

    def visit_Call(self, node: nodes.Call) -> nodes.Node:
        method = node.node
        if not isinstance(method, nodes.Getattr) or method.attr not in METHODS:
            name = method.attr if isinstance(method, nodes.Getattr) else getattr(method, "name", "this")
            raise TemplateProblem(
                f"{name}() cannot be called; methods of texts can: {', '.join(sorted(METHODS))}", node.lineno
            )
        if node.dyn_args is not None or node.dyn_kwargs is not None:
            raise TemplateProblem("a call cannot unpack its arguments", node.lineno)
        arguments = [self.visit(argument) for argument in node.args]
        named = [self.visit(keyword) for keyword in node.kwargs]
        return self._filter(self.visit(method.node), method.attr, node, arguments, named)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        parts = nodes.List([self.visit(part) for part in node.nodes], lineno=node.lineno)
        return self._filter(parts, "concat", node)

    def visit_For(self, node: nodes.For) -> nodes.Node:
        if node.recursive or not isinstance(node.target, nodes.Name):
            raise TemplateProblem("a loop takes one name: {% for title in raw.headlines %}", node.lineno)
        if self.depth == LOOP_DEPTH:
            raise TemplateProblem(f"loops are at most {LOOP_DEPTH} deep", node.lineno)
        self.depth += 1
        self.generic_visit(node)
        self.depth -= 1
        node.iter = self._filter(node.iter, "each", node)
        return node

    def visit_Assign(self, node: nodes.Assign) -> nodes.Node:
        if not isinstance(node.target, nodes.Name):
            raise TemplateProblem("set takes one name: {% set gap = raw.ema_gap_pct %}", node.lineno)
        return self.generic_visit(node)

    def visit_Mod(self, node: nodes.Mod) -> nodes.Node:
        node.left = self.visit(node.left)
        if isinstance(node.right, nodes.Tuple):
            node.right.items = [self.visit(item) for item in node.right.items]
        else:
            node.right = self.visit(node.right)
        return node

    def visit_List(self, node: nodes.List) -> nodes.Node:
        return self._constants(node, node.items)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        return self._constants(node, node.items)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        return self._constants(node, [part for pair in node.items for part in (pair.key, pair.value)])

    def _constants(self, node: nodes.Expr, parts: Sequence[nodes.Node]) -> nodes.Node:
        if not all(isinstance(part, nodes.Const) for part in parts):
            raise TemplateProblem("a list or mapping holds plain texts and numbers only", node.lineno)
        return node

    def _filter(
        self,
        value: nodes.Node,
        name: str,
        at: nodes.Node,
        arguments: Sequence[nodes.Expr] = (),
        named: Sequence[nodes.Keyword] = (),
    ) -> nodes.Filter:
        made = nodes.Filter(
            cast("nodes.Expr", value), f" {name}", list(arguments), list(named), None, None, lineno=at.lineno
        )
        made.set_environment(_ENVIRONMENT)
        return made


class Program:
    """A template's text, checked and compiled.

    Attributes:
        raw_names: keys it reads as `raw.<key>`.
        names: other names it reads and does not set itself.
        literals: its literal texts with the line each starts on.
    """

    def __init__(self, text: str) -> None:
        """Check and compile.

        Raises:
            TemplateProblem: the text is no template, or says what the language does not allow.
        """
        if len(text) > SOURCE_LIMIT:
            raise TemplateProblem(f"has {len(text):,} characters, of at most {SOURCE_LIMIT:,}")
        try:
            tree = _ENVIRONMENT.parse(text)
            self.literals = [(node.lineno, node.data) for node in tree.find_all(nodes.TemplateData)]
            checker = _Checker()
            checked = checker.visit(tree)
            self.raw_names = frozenset(checker.raw_names)
            self.names = frozenset(meta.find_undeclared_variables(checked) - {RAW})
            code = _ENVIRONMENT.compile(checked)
        except TemplateSyntaxError as error:
            raise TemplateProblem(f"not a valid Jinja2 template ({error.message})", error.lineno) from None
        except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
            if isinstance(error, TemplateProblem):
                raise
            raise TemplateProblem(f"not a valid Jinja2 template ({str(error) or type(error).__name__})") from None
        self._template = CompiledTemplate.from_code(_ENVIRONMENT, code, _ENVIRONMENT.globals)

    def render(self, values: Mapping[str, Any]) -> str:
        """The text, without a final newline.

        Raises:
            Exception: whatever an expression raised; `line_of` says where.
            TemplateProblem: the text grows too long.
        """
        return "".join(self._pieces(values))

    def _pieces(self, values: Mapping[str, Any]) -> Iterator[str]:
        length = 0
        for piece in self._template.generate(values):
            length += len(piece)
            sized(length)
            yield piece


def line_of(error: BaseException) -> int | None:
    """The template's line in which rendering failed."""
    trace, line = error.__traceback__, None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
