"""The table of the plan: enough rows, numbered, each with what shows it, and every name in it exists."""

import ast
import re
from pathlib import Path

import click
import pytest

from candletune.cli import program
from candletune.config import Config
from candletune.training.recipe import steps_of

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "plan.md"
LEAST_ROWS = 109
ROW = re.compile(r"^\| (\d+) \| (.+) \|$")
VERDICTS = {"same", "better", "other", "not", "beyond"}


def rows() -> list[list[str]]:
    """Number, the plan's words, what candletune does, verdict and what shows it, for each row of every table."""
    found = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if ROW.match(line):
            found.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return found


def every_test() -> set[str]:
    """Every test function of the project."""
    names: set[str] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names |= {
            node.name
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
        }
    return names


TESTS = every_test()


def test_there_is_a_row_for_every_line_of_the_plan() -> None:
    table = rows()
    assert sum(row[3] != "beyond" for row in table) >= LEAST_ROWS
    assert [int(row[0]) for row in table] == list(range(1, len(table) + 1))
    assert {len(row) for row in table} == {5}
    assert {row[3] for row in table} == VERDICTS


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_what_shows_it_exists(row: list[str]) -> None:
    proofs = re.findall(r"`([^`]+)`", row[4])
    links = re.findall(r"\]\(([^)]+)\)", row[4])
    assert proofs or links, "nothing shows it"
    for proof in proofs:
        first, *rest = proof.split()
        if first == "candletune":
            _assert_command(rest)
        elif first == "python":
            assert (ROOT / rest[0]).is_file(), proof
        elif first == "make":
            assert re.search(rf"^{rest[0]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE), proof
        else:
            assert proof in TESTS, proof
    for link in links:
        assert link.startswith("https://") or (PAGE.parent / link.partition("#")[0]).is_file(), link


def _assert_command(words: list[str]) -> None:
    """The command, its subcommand and its options exist."""
    command: click.Command | None = program
    for word in words:
        if isinstance(command, click.Group):
            command = command.get_command(click.Context(command), word)
            assert command is not None, word
        elif word.startswith("--"):
            assert command is not None
            assert word in {option for parameter in command.params for option in parameter.opts}, word


def test_rows_that_name_settings_name_those_that_exist() -> None:
    config = Config()
    for row in rows():
        for table, key in re.findall(r"`(?:--set )?(\w+)\.(\w+)(?: = [^`]+)?`", row[2]):
            if table in Config.model_fields and key != "json":
                assert hasattr(getattr(config, table), key), f"{table}.{key}"


def test_the_figures_of_this_table() -> None:
    """254 steps, 3.8 million trained numbers, 14.6 MiB: computed from the defaults and Ministral-8B's shape."""
    config = Config()
    examples = 3 * config.dataset.per_class
    train = examples - round(examples * config.dataset.eval_fraction)
    assert steps_of(config.train, train) == 254
    assert int(examples * config.train.epochs / config.train.effective_batch) == 281
    layers, hidden, keys = 36, 4096, 1024
    trained = layers * config.train.lora_rank * ((hidden + hidden) + (hidden + keys))
    assert trained == 3_833_856
    assert round(trained * 4 / 2**20, 1) == 14.6
    assert round(trained / 8.02e9 * 100, 2) == 0.05
