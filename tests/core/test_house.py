"""The limits that keep the code readable, measured on the code itself."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "src" / "candletune"
FILES = sorted(ROOT.rglob("*.py"))
LINES, PARAMETERS, MODULE, IMPORTS, UNTYPED = 60, 7, 400, 12, 30
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    yield from (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


def is_kernel(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Triton kernels take strides and block sizes one by one."""
    return any("triton" in ast.unparse(decorator) for decorator in function.decorator_list)


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Parameters a caller fills in: not self or cls, and not what click's decorators pass."""
    if any("click." in ast.unparse(d) or "with_config" in ast.unparse(d) for d in function.decorator_list):
        return 0
    arguments = function.args
    names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


def project_imports(tree: ast.AST) -> set[str]:
    modules = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("candletune"):
            modules.add(node.module or "")
        elif isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names if alias.name.startswith("candletune")}
    return modules


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_module_can_be_taken_in(path: Path) -> None:
    tree = TREES[path]
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MODULE
    assert len(project_imports(tree)) <= IMPORTS, sorted(project_imports(tree))
    for function in functions(tree):
        size = (function.end_lineno or function.lineno) - function.lineno + 1
        assert size <= LINES, f"{function.name} has {size} lines"
        if not is_kernel(function):
            assert parameters(function) <= PARAMETERS, f"{function.name} has {parameters(function)} parameters"


def test_untyped_dictionaries_are_few() -> None:
    """A file's content has a model; what stays a dictionary is somebody else's JSON."""
    uses = [name_of(path) for path in FILES for _ in range(path.read_text(encoding="utf-8").count("dict[str, Any]"))]
    assert len(uses) <= UNTYPED, uses
