"""The live side over llama.cpp: switching back gives the same bytes, one base in memory, the programs themselves."""

import itertools
import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from adapters import make_adapter
from candletune.artifacts import ExportSummary
from candletune.config import Config, load_config
from candletune.console import SilentReporter
from candletune.decide import Model, bare_base, model_at
from candletune.errors import InputError
from candletune.gguf.adapter import write_adapter
from candletune.gguf.model import write_model
from candletune.gguf.peft import read_adapter
from candletune.hashes import sha256_path
from candletune.journal import Journal, RowRecord, read_rows
from candletune.live.promotion import promote, rollback
from candletune.live.shadow import Due, ShadowLoop, open_loop
from candletune.live.signal import Trader
from candletune.model_shape import read_shape
from candletune.runs import RunFolder
from stage_entries import record_stage

pytestmark = pytest.mark.llamacpp
QUIET = SilentReporter()
CONTEXT = {"ticker": "BTC", "price_usd": 97_123.5, "rsi": 28.3, "macd_hist": -12.5, "ema_bullish": True}
MEMORY = """
import sys, psutil
from candletune.config import load_config
from candletune.live.signal import Trader
from candletune.decide import model_at
from pathlib import Path
trader = Trader(load_config(None, sys.argv[3:]))
for path in sys.argv[1:3]:
    trader.predict({"ticker": "BTC", "price_usd": 1.0}, model=model_at(Path(path)))
    print(psutil.Process().memory_info().rss)
"""


@pytest.fixture(scope="module")
def settings(random_base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """`--set` values of a run folder with base.gguf, a candidate and an incumbent `a.gguf`."""
    folder = tmp_path_factory.mktemp("live")
    gguf = folder / "run" / "gguf"
    gguf.mkdir(parents=True)
    shape = read_shape(random_base)
    base = gguf / "base.gguf"
    write_model(random_base, base, number_format="F32", name="x", manifest={}, reporter=SilentReporter())
    for target, seed in ((folder / "a.gguf", 5), (gguf / "custom-trading-lora.gguf", 9)):
        peft = make_adapter(random_base, folder / f"peft{seed}", seed=seed)
        write_adapter(read_adapter(peft, shape), shape, target, number_format="F32", manifest={}, name="x")
    return [
        f"run.folder={folder / 'run'}",
        f"incumbent.adapter={folder / 'a.gguf'}",
        f"live.state={folder / 'active.json'}",
        "engine.max_tokens=16",
        "engine.threads=1",
    ]


def set_up(settings: list[str], tmp_path: Path) -> Config:
    return load_config(None, [*settings, f"live.journal={tmp_path / 'log.jsonl'}"])


@pytest.fixture
def trader(settings: list[str], tmp_path: Path) -> Iterator[Trader]:
    trader = Trader(set_up(settings, tmp_path))
    yield trader
    trader.close()


def files(settings: list[str]) -> tuple[Model, Model]:
    config = load_config(None, settings)
    assert config.incumbent.adapter is not None
    return model_at(config.incumbent.adapter), model_at(config.run.folder / "gguf" / "custom-trading-lora.gguf")


def test_a_b_a_gives_the_first_answer_again(trader: Trader, settings: list[str]) -> None:
    a, b = files(settings)

    def said(adapter: Model) -> tuple[Any, ...]:
        found = trader.predict(CONTEXT, model=adapter)
        return found.status, found.action, found.reasoning, found.probabilities

    first = said(a)
    assert said(b) != first
    assert said(a) == first
    assert said(bare_base()) != first
    assert said(a) == first


def test_an_override_asks_another_adapter_once(trader: Trader) -> None:
    own = trader.predict(CONTEXT)
    other = trader.predict(CONTEXT | {"_lora_override": "candidate"})
    assert own.adapter_sha256 != other.adapter_sha256 is not None
    assert trader.predict(CONTEXT).probabilities == own.probabilities


def test_a_second_adapter_costs_no_second_base(settings: list[str]) -> None:
    a, b = files(settings)
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(a.path), str(b.path), *settings], capture_output=True, text=True, check=True
    )
    one, two = map(int, done.stdout.split())
    assert two <= one * 1.1


@pytest.mark.parametrize("share", [0.0, 0.1, 0.9])
def test_a_stopped_candidate_changes_no_active_answer(settings: list[str], tmp_path: Path, share: float) -> None:
    """The next decision falls due before the candidate is asked, while it reads, or while it writes its reason."""
    _, b = files(settings)
    start = datetime(2025, 1, 1, tzinfo=UTC)
    due = [Due(start + timedelta(hours=n), "BTC", 1.0 + n, CONTEXT | {"rsi": 20.0 + n}) for n in range(4)]

    asked: list[int] = []

    def answers(name: str, candidate: Callable[[], Model], after: float) -> tuple[list[str], list[RowRecord]]:
        config = load_config(None, [*settings, f"live.journal={tmp_path / name}"])
        trader, said = Trader(config), []

        def emit(answer: Mapping[str, Any]) -> None:
            said.append(json.dumps(answer))

        loop = ShadowLoop(
            trader, Journal(tmp_path / name), candidate=candidate, base_sha256="0" * 64, emit=emit, reporter=QUIET
        )
        for item in due:
            calls = itertools.count()
            loop.cycle([item], behind=lambda: next(calls) >= after)  # noqa: B023
            asked.append(next(calls))
        trader.close()
        return said, list(read_rows(tmp_path / name))

    def missing() -> Model:
        raise InputError("no candidate")

    alone, _ = answers("alone.jsonl", missing, math.inf)
    asked.clear()
    whole, answered = answers("whole.jsonl", lambda: b, math.inf)
    assert whole == alone
    said, rows = answers("both.jsonl", lambda: b, share * min(asked))
    assert said == alone
    assert {row["shadow"]["status"] for row in answered} == {"ok"}
    assert {row["shadow"]["status"] for row in rows} == {"error" if share else "skipped"}
    assert all(
        "no time" in (row["shadow"]["error"] or "") or "stopped" in (row["shadow"]["error"] or "") for row in rows
    )


def test_the_longest_time_for_a_candidate(settings: list[str], tmp_path: Path) -> None:
    config = load_config(None, [*settings, f"live.journal={tmp_path / 'log.jsonl'}", "live.candidate_seconds=0.000001"])
    trader = Trader(config)
    loop = open_loop(config, trader, emit=lambda _: None, reporter=QUIET)
    start = datetime(2025, 1, 1, tzinfo=UTC)
    loop.cycle([Due(start + timedelta(hours=n), "BTC", 1.0, CONTEXT) for n in range(2)])
    trader.close()
    for row in read_rows(tmp_path / "log.jsonl"):
        assert row["active"]["status"] == "ok"
        assert row["shadow"]["status"] == "error"
        assert "live.candidate_seconds = 1e-06" in (row["shadow"]["error"] or "")


def run(settings: list[str], command: list[str], text: str) -> tuple[list[dict[str, Any]], int]:
    assignments = [part for value in settings for part in ("--set", value)]
    done = subprocess.run(
        [sys.executable, "-m", "candletune", *command, *assignments],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    return [json.loads(line) for line in done.stdout.splitlines()], done.returncode


def test_the_programs(settings: list[str], tmp_path: Path) -> None:
    """signal, signal --serve and shadow --stdin give the same answer; a wrong line stops nothing."""
    config = tmp_path / "candletune.toml"
    config.write_text("")
    options = ["--config", str(config)]
    one = json.dumps(CONTEXT)
    (alone,), code = run(settings, ["signal", *options], one)
    assert (code, alone["status"]) == (0, "ok")
    served, code = run(settings, ["signal", "--serve", *options], f"{one}\n{{\n\n{one}\n")
    assert code == 0
    assert [answer["status"] for answer in served] == ["ok", "error", "ok"]
    assert served[0] == served[2] == alone
    stamped = json.dumps(CONTEXT | {"timestamp": "2025-01-01T12:00:00Z"})
    journal = tmp_path / "log.jsonl"
    said, code = run(
        [*settings, f"live.journal={journal}"], ["shadow", "--stdin", *options], f"{stamped}\n[]\n{stamped}\n"
    )
    assert code == 0
    assert [answer["status"] for answer in said] == ["ok", "error", "error"]
    assert {key: said[0][key] for key in alone} == alone
    (row,) = read_rows(journal)
    a, b = files(settings)
    assert (row["active"]["adapter_sha256"], row["shadow"]["adapter_sha256"]) == (a.sha256, b.sha256)
    assert (row["active"]["action"], row["shadow"]["status"]) == (alone["action"], "ok")


@pytest.fixture
def merged_run(settings: list[str], random_base: Path, tmp_path: Path) -> Config:
    """A run that exported the candidate's LoRA first, and then the same adapter merged into the base."""
    source = load_config(None, settings).run.folder / "gguf"
    run = RunFolder(tmp_path / "run")
    run.gguf.mkdir(parents=True)
    for name in ("base.gguf", "custom-trading-lora.gguf"):
        (run.gguf / name).write_bytes((source / name).read_bytes())
    shape = read_shape(random_base)
    adapter = read_adapter(make_adapter(random_base, tmp_path / "peft", seed=9), shape)
    write_model(
        random_base,
        run.merged_gguf,
        number_format="F32",
        name="merged",
        manifest={},
        reporter=QUIET,
        adapter=adapter,
    )
    record_stage(run, ExportSummary(kind="merged", sha256=sha256_path(run.merged_gguf)))
    more = [
        f"run.folder={run.path}",
        f"live.state={tmp_path / 'active.json'}",
        f"live.journal={tmp_path / 'log.jsonl'}",
    ]
    return load_config(None, [*settings, *more])


def test_a_merged_candidate_is_asked_in_the_shadow_and_acts_when_promoted(merged_run: Config) -> None:
    run = RunFolder(merged_run.run.folder)
    digest = sha256_path(run.merged_gguf)
    trader = Trader(merged_run)
    lora = trader.predict(CONTEXT, model=model_at(run.adapter_gguf))
    before = trader.predict(CONTEXT)
    loop = open_loop(merged_run, trader, emit=lambda _: None, reporter=QUIET)
    loop.cycle([Due(datetime(2025, 1, 1, tzinfo=UTC), "BTC", 1.0, CONTEXT)])
    (row,) = read_rows(merged_run.live.journal)
    assert (row["shadow"]["status"], row["shadow"]["adapter_sha256"]) == ("ok", digest)
    assert lora.probabilities is not None
    assert row["shadow"]["probabilities"] == pytest.approx(lora.probabilities, abs=1e-3)

    promoted = promote(merged_run, force="test")
    run.merged_gguf.unlink()  # the run folder may go; the copy acts
    run.adapter_gguf.unlink()
    acting = trader.predict(CONTEXT)  # the open trader follows
    assert (acting.model, acting.adapter_sha256) == (promoted.name, digest)
    assert acting.probabilities == row["shadow"]["probabilities"]
    fresh = Trader(merged_run)
    assert fresh.predict(CONTEXT).side().record() | {"latency_ms": 0} == acting.side().record() | {"latency_ms": 0}
    assert fresh.predict(CONTEXT | {"_lora_override": promoted.name}).adapter_sha256 == digest
    fresh.close()
    rollback(merged_run)
    assert trader.predict(CONTEXT).probabilities == before.probabilities
    trader.close()


@pytest.mark.parametrize("what", ["nothing", "cut short", "a whole model", "of another template"])
def test_what_does_not_load_is_not_promoted_even_by_force(
    what: str, settings: list[str], random_base: Path, tmp_path: Path
) -> None:
    """A reason replaces the verdict, which says that the model was asked; not the model."""
    run = RunFolder(set_up(settings, tmp_path).run.folder)
    own = [f"run.folder={tmp_path / 'run'}", f"live.state={tmp_path / 'active.json'}"]
    config = set_up([*settings, *own], tmp_path)
    made = RunFolder(config.run.folder)
    made.gguf.mkdir(parents=True)
    made.base_gguf.write_bytes(run.base_gguf.read_bytes())
    whole, lora = run.base_gguf.read_bytes(), run.adapter_gguf.read_bytes()
    if what == "of another template":
        shape = read_shape(random_base)
        peft = read_adapter(make_adapter(random_base, tmp_path / "peft", seed=3), shape)
        manifest = {"template_sha256": "f" * 64}
        write_adapter(peft, shape, made.adapter_gguf, number_format="F32", manifest=manifest, name="x")
    else:
        content = {"nothing": b"no model", "cut short": lora[: len(lora) // 2], "a whole model": whole}[what]
        made.adapter_gguf.write_bytes(content)
    with pytest.raises(InputError, match=r"custom-trading-lora\.gguf: "):
        promote(config, force="test")
    assert not config.live.state.exists()


def test_a_whole_model_is_no_override(settings: list[str], tmp_path: Path) -> None:
    config = set_up(settings, tmp_path)
    trader = Trader(config)
    with pytest.raises(InputError, match="whole model, not a LoRA"):
        trader.predict(CONTEXT | {"_lora_override": str(RunFolder(config.run.folder).base_gguf)})
    trader.close()
