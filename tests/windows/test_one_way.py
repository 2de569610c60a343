"""No module but `files`, `disk` and `process` does what Windows does otherwise; every text file names its encoding.

Functions are ruff's business (TID251 in pyproject.toml); here are methods, which ruff cannot tell apart by name.
"""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "candletune"
FILES = sorted(path for path in SOURCE.rglob("*.py") if path.name not in ("files.py", "disk.py"))
METHODS = frozenset(
    "unlink rename rmdir touch chmod lchmod symlink_to hardlink_to write_text write_bytes mkdir".split()
)


def offences(tree: ast.AST) -> list[str]:
    """Calls of path methods that belong to `candletune.files`, as `line: call`."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if isinstance(called, ast.Attribute):
            # str.replace takes two arguments, datetime's and dataclasses' only keywords: one alone is a path's, or a
            # mapping or function of Polars.
            table = bool(node.args) and isinstance(node.args[0], ast.Dict | ast.DictComp | ast.Lambda)
            path_replace = called.attr == "replace" and len(node.args) == 1 and not node.keywords
            if not table and (path_replace or called.attr in METHODS):
                found.append(f"{node.lineno}: .{called.attr}()")
        is_open = (isinstance(called, ast.Attribute) and called.attr == "open") or (
            isinstance(called, ast.Name) and called.id == "open"
        )
        if is_open and any(
            isinstance(argument, ast.Constant)
            and isinstance(argument.value, str)
            and set(argument.value) & set("wax+")
            and len(argument.value) <= 3
            for argument in node.args
        ):
            found.append(f"{node.lineno}: open for writing")
        reads = isinstance(called, ast.Attribute) and called.attr == "read_text"
        if reads and not node.args and all(keyword.arg != "encoding" for keyword in node.keywords):
            found.append(f"{node.lineno}: read_text without an encoding")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_files_are_written_moved_and_removed_in_one_place(path: Path) -> None:
    name = path.relative_to(SOURCE).as_posix()
    found = offences(ast.parse(path.read_text(encoding="utf-8")))
    if name == "cli.py":  # the null device in place of a closed pipe
        found = [line for line in found if "open for writing" not in line]
    assert not found, f"{name}: {found}; use candletune.files"


@pytest.mark.parametrize(
    "line",
    [
        "path.unlink()",
        "source.replace(target)",
        "path.write_text('x', encoding='utf-8')",
        "path.open('w', encoding='utf-8')",
        "open(path, 'ab')",
        "path.read_text()",
        "path.mkdir()",
    ],
)
def test_the_rule_finds_what_it_is_for(line: str) -> None:
    assert offences(ast.parse(line))


@pytest.mark.parametrize(
    "line", ["text.replace('a', 'b')", "when.replace(tzinfo=UTC)", "path.open('rb')", "path.read_text('utf-8')"]
)
def test_the_rule_leaves_the_rest_alone(line: str) -> None:
    assert not offences(ast.parse(line))


def test_posix_only_functions_are_banned() -> None:
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]["lint"]
    banned = set(lint["flake8-tidy-imports"]["banned-api"])
    assert "TID251" in lint["select"]
    wanted = "os.fsync os.replace os.rename os.fork os.uname os.open tempfile fcntl pwd resource shutil.rmtree"
    assert set(wanted.split()) | {"signal.SIGKILL", "signal.SIGHUP"} <= banned
    excused = {name for name, rules in lint["per-file-ignores"].items() if "TID251" in rules}
    inside = {"src/candletune/files.py", "src/candletune/disk.py"}
    assert excused == inside | {
        "tests/**",
        "bench/**",
        "tools/record_terminal.py",
        "tools/screenshots.py",
    }  # what is not installed
