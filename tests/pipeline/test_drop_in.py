"""The plain drop-in: llama-cpp-python alone sends the prompt that training saw, and decides as the replay judged."""

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import llama_cpp
import pytest

from candletune.base.tokenizer import load_tokenizer
from candletune.config import load_config
from candletune.console import SilentReporter
from candletune.engines.llama_cpp import LlamaCppEngine
from candletune.gguf.model import write_model
from candletune.runs import RunFolder
from candletune.stages import stage
from candletune.stages.pipeline import prepare
from candletune.stages.runner import run_stage

pytestmark = pytest.mark.llamacpp
ROOT = Path(__file__).parents[2]
TURNS = (
    "{% for m in messages %}{{ bos_token + m['role'] + '\n' + m['content'] + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ bos_token + 'assistant\n' }}{% endif %}"
)
NO_BOS = "{% for m in messages %}[INST]{{ m['content'] }}[/INST]{% endfor %}"
MISTRAL = "{{ bos_token }}{% for m in messages %}[INST] {{ m['content'] }} [/INST]{% endfor %}"
Texts = tuple[list[str], list[str]]


def module_at(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return module_at(ROOT / "examples" / "drop_in.py")


def opened(gguf: Path) -> llama_cpp.Llama:
    return llama_cpp.Llama(model_path=str(gguf), vocab_only=True, verbose=False)


def test_it_needs_nothing_of_candletune(script: ModuleType) -> None:
    tree = ast.parse(Path(str(script.__file__)).read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} <= {"argparse", "json", "re", "sys", "pathlib", "llama_cpp"}


@pytest.mark.parametrize("template", [None, TURNS, MISTRAL, NO_BOS], ids=["none", "turns", "mistral", "no bos"])
def test_it_sends_the_ids_that_were_trained(
    template: str | None, script: ModuleType, random_base: Path, tmp_path: Path, texts: Texts
) -> None:
    folder = tmp_path / "base"
    tokenizer = load_tokenizer(random_base)
    folder.mkdir()
    for file in random_base.iterdir():
        if file.name != "chat_template.jinja":
            (folder / file.name).write_bytes(file.read_bytes())
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    gguf = tmp_path / "base.gguf"
    write_model(folder, gguf, number_format="F32", name="x", manifest={}, reporter=SilentReporter())
    engine = LlamaCppEngine(gguf, load_config(None, ["engine.threads=1"]).engine)
    llm = opened(gguf)
    for prompt in [*texts[0][:5], "Биткойн растёт 🚀\n比特币上涨"]:
        ids = script.prompt_ids(llm, prompt)
        assert ids == engine.prompt_ids(prompt)
        assert tokenizer.decode(tokenizer.encode(prompt)) in tokenizer.decode(ids)
    engine.close()


@pytest.mark.slow
def test_it_sends_smollm2_its_own_chat(script: ModuleType, smollm2: Path, texts: Texts) -> None:
    engine = LlamaCppEngine(smollm2, load_config(None, ["engine.threads=1"]).engine)
    llm = opened(smollm2)
    for prompt in texts[0][:20]:
        assert script.prompt_ids(llm, prompt) == engine.prompt_ids(prompt)
    engine.close()


@pytest.mark.parametrize(
    ("text", "decision"),
    [
        ("DECISION: BUY - up.", "BUY"),
        ("\n DECISION: HOLD", "HOLD"),
        ("HOLD, not a BUY", "INVALID"),
        ("I think DECISION: BUY", "INVALID"),
        ("DECISION: BUYING", "INVALID"),
        ("", "INVALID"),
    ],
)
def test_an_answer_is_read_at_its_start(text: str, decision: str, script: ModuleType) -> None:
    assert script.decision(text) == decision


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A configuration whose run was replayed: a tiny model that found a planted signal, at other odds than life's."""
    folder = tmp_path_factory.mktemp("dropin")
    settings = {
        "run": {"folder": f"'{folder / 'run'}'"},
        "live": {"state": f"'{folder / 'active.json'}'"},
        "simulate": {"enabled": "true", "years": "0.5"},
        "labels": {"threshold": "0.04"},  # HOLD is common, and training balances it away
        "base": {"model": "'tiny'"},
        "dataset": {"test_start": "2022-05-15", "per_class": "100", "natural_eval": "30"},
        "train": {
            "device": "'cpu'",
            "max_steps": "20",
            "learning_rate": "5e-3",
            "effective_batch": "8",
            "eval_steps": "0",
            "policy_steps": "4",
            "call_share": "0.5",  # half and half, so that agreement means something
        },
        "replay": {"limit": "50", "reasons": "0"},
        "engine": {"threads": "1", "max_tokens": "12"},
    }
    lines = [f"{table}.{key} = {value}" for table, keys in settings.items() for key, value in keys.items()]
    path = folder / "candletune.toml"
    path.write_text("\n".join(lines))
    config, reporter = load_config(path), SilentReporter()
    run = RunFolder(config.run.folder)
    with run.lock():
        config = prepare(config, run, reporter)
        for name in ("base", "dataset", "train", "export", "replay"):
            run_stage(stage(name), config, run, reporter)
    yield path


@pytest.mark.slow
def test_the_drop_in_decides_as_judged(judged: Path) -> None:
    bench = module_at(ROOT / "bench" / "drop_in.py")
    config = load_config(judged)
    run = RunFolder(config.run.folder)
    config = prepare(config, run, SilentReporter())
    rows = bench.judged_rows(config, run, 100)
    answers = bench.ask(config, run, rows, 1)
    said = [answer["decision"] for answer in answers]
    assert len(said) == len(rows) == 100
    assert len(set(said)) > 1, "it says more than one thing, or agreement would mean little"
    same = sum(one == other for one, other in zip(said, rows["decision"], strict=True))
    assert same >= 98
