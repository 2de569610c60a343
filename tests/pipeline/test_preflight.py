"""What would end a later stage is found before the first one begins: planted failures, each with its line."""

import json
import os
import shutil
from collections import namedtuple
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import polars as pl
import pytest

from candletune.cli import main
from candletune.config import Config, load_config
from candletune.console import SilentReporter
from candletune.preflight import PreflightFailed, examine, pending_stages, preflight
from candletune.preflight.data import held_out_rows
from candletune.preflight.findings import CHECKS, Finding, check
from candletune.prompts.template import load_template
from candletune.runs import RunFolder
from candletune.stages import STAGES
from candletune.stages.pipeline import prepare

MACHINE = ("memory", "disk", "versions", "llama.cpp", "gpu")
"""Checks whose answer depends on the machine the tests run on; planted ones ask them on purpose."""
Plant = Callable[["Place", pytest.MonkeyPatch], list[str]]


class Place:
    """A folder with candles of two pairs over 0.6 years, a configuration, and room for what is planted."""

    def __init__(self, folder: Path, candles: Path) -> None:
        self.folder = folder
        self.candles = folder / "candles"
        shutil.copytree(candles, self.candles)
        self.file = folder / "candletune.toml"
        self.file.write_text(
            '[run]\nfolder = "run"\n[data]\nfolder = "candles"\n[base]\nmodel = "tiny"\n[dataset]\nnatural_eval = 60\n'
            "[evaluate]\nmin_effective = 5\n"
        )

    def write(self, name: str, content: str | bytes) -> Path:
        """A file in the folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def pair(self, name: str) -> Path:
        """The candle file of a pair."""
        return next(path for path in self.candles.rglob("*.feather") if path.name.startswith(name))


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("market")
    config = load_config(None, [f"run.folder={folder}", "simulate.enabled=true", "simulate.years=0.6"])
    return prepare(config, RunFolder(folder), SilentReporter()).data.folder


@pytest.fixture
def place(tmp_path: Path, simulated: Path) -> Place:
    return Place(tmp_path, simulated)


def settings(*assignments: str) -> Plant:
    return lambda *_: list(assignments)


def no_folder(place: Place, _: pytest.MonkeyPatch) -> list[str]:
    shutil.rmtree(place.candles)
    return []


def no_pair(place: Place, _: pytest.MonkeyPatch) -> list[str]:
    place.pair("ETH").unlink()
    return []


def cut_candles(place: Place, _: pytest.MonkeyPatch) -> list[str]:
    path = place.pair("BTC")
    path.write_bytes(path.read_bytes()[:2000])
    return []


def bad_prices(place: Place, _: pytest.MonkeyPatch) -> list[str]:
    path = place.pair("BTC")
    frame = pl.read_ipc(path.read_bytes())
    frame.with_columns(high=pl.col("low") - 1).write_ipc(path)
    return []


def headlines(place: Place, _: pytest.MonkeyPatch) -> list[str]:
    path = place.write("news.csv", "published_at,polarity,title\n2022-01-02T00:00:00+00:00,7,x\n")
    return [f"data.headlines={path}"]


def template(text: str) -> Plant:
    return lambda place, _: [f"prompt.template={place.write('mine.j2', text)}"]


def base(**config: object) -> Plant:
    def plant(place: Place, _: pytest.MonkeyPatch) -> list[str]:
        if config:
            place.write("base/config.json", json.dumps(config))
        else:
            (place.folder / "base").mkdir()
        return [f"base.model={place.folder / 'base'}"]

    return plant


MISTRAL = {
    "architectures": ["MistralForCausalLM"],
    "model_type": "mistral",
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 1024,
}


def gguf(key: str, *, lora: bool, **sizes: int) -> Plant:
    """A GGUF header of the wrong kind."""

    def plant(place: Place, _: pytest.MonkeyPatch) -> list[str]:
        import numpy as np

        import gguf as library

        path = place.folder / "planted.gguf"
        writer = library.GGUFWriter(path, "llama")
        if lora:
            writer.add_type("adapter")
            lora_keys(writer)
        for name, value in sizes.items():
            writer.add_uint32(f"llama.{name}", value)
        for name, shape in LORA_PAIR if lora else (("x", (32, 32)),):
            writer.add_tensor(name, np.zeros(shape, np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return [f"{key}={path}"]

    return plant


LORA_PAIR = (("blk.0.attn_q.weight.lora_a", (8, 32)), ("blk.0.attn_q.weight.lora_b", (32, 8)))


def lora_keys(writer: Any) -> None:
    """What llama.cpp reads of a LoRA beside its tensors."""
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 16.0)


def other_template(place: Place, _: pytest.MonkeyPatch) -> list[str]:
    import numpy as np

    import gguf as library

    path = place.folder / "old.gguf"
    writer = library.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    lora_keys(writer)
    writer.add_string("candletune.manifest", json.dumps({"template_sha256": "f" * 64}))
    for name, shape in LORA_PAIR:
        writer.add_tensor(name, np.zeros(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return [f"incumbent.adapter={path}"]


def cut_incumbent(place: Place, _: pytest.MonkeyPatch) -> list[str]:
    path = place.write("old.gguf", b"GGUF\x03\x00")
    return [f"incumbent.adapter={path}"]


def broken_state(place: Place, _: pytest.MonkeyPatch) -> list[str]:
    return [f"live.state={place.write('live/active.json', '{')}"]


def below_a_file(key: str, name: str) -> Plant:
    return lambda place, _: [f"{key}={place.write('occupied', 'x') / name}"]


def own_tiny_below_a_file(place: Place, patch: pytest.MonkeyPatch) -> list[str]:
    """The packaged tiny base needs no folder; one for a template of one's own is built in `base.cache`."""
    template = place.write("mine.j2", "Dear model,\n" + load_template().text)
    return [*below_a_file("base.cache", "cache")(place, patch), f"prompt.template={template}"]


def full_disk(_: Place, patch: pytest.MonkeyPatch) -> list[str]:
    usage = namedtuple("usage", "total used free")
    patch.setattr("candletune.preflight.machine.shutil.disk_usage", lambda _: usage(10, 9, 2**20))
    return []


def little_memory(_: Place, patch: pytest.MonkeyPatch) -> list[str]:
    patch.setattr("candletune.preflight.machine.psutil.virtual_memory", lambda: SimpleNamespace(available=2**29))
    return []


def no_llama(_: Place, patch: pytest.MonkeyPatch) -> list[str]:
    patch.setattr("candletune.preflight.machine._installed", lambda name: name != "llama-cpp-python")
    return []


def old_torch(_: Place, patch: pytest.MonkeyPatch) -> list[str]:
    patch.setattr("candletune.preflight.machine.version", lambda name: "1.0" if name == "torch" else version(name))
    return []


def no_gpu(*wanted: str) -> Plant:
    def plant(_: Place, patch: pytest.MonkeyPatch) -> list[str]:
        import torch

        patch.setattr(torch.cuda, "is_available", lambda: False)
        return list(wanted)

    return plant


PROMPT = "{{ ticker }} {{ price_usd }} {{ rsi }}\nDECISION: "
PLANTED: dict[str, tuple[Plant, tuple[str, ...]]] = {
    "no candle folder": (no_folder, ("candles", "no such folder", "data.folder")),
    "no file of a pair": (no_pair, ("ETH/USDT:USDT",)),
    "candles cut off": (cut_candles, ("BTC", "feather")),
    "impossible prices": (bad_prices, ("BTC", "high")),
    "two pairs, one ticker": (settings("data.pairs=BTC/USDT:USDT,BTC/USDT"), ("data.pairs", "BTC")),
    "test_start beyond the candles": (settings("dataset.test_start=2030-01-01"), ("dataset.test_start", "2030")),
    "test_start before all training": (settings("dataset.test_start=2022-01-02"), ("no training examples",)),
    "train_start too late": (settings("dataset.train_start=2029-01-01"), ("dataset.train_start",)),
    "replay beyond the candles": (settings("replay.start=2031-01-01"), ("replay.start", "2031")),
    "replay ends before it starts": (settings("replay.end=2022-01-05"), ("replay.end", "later")),
    "replay over training": (settings("replay.start=2022-02-01"), ("replay.start", "replay.force")),
    "no Fear & Greed file": (settings("data.fear_greed=none.csv"), ("none.csv", "data.fear_greed")),
    "impossible headline": (headlines, ("news.csv", "line 2", "polarity", "-1 to 1")),
    "template does not parse": (template("{% if %}"), ("mine.j2", "Jinja2")),
    "template field unknown": (template(PROMPT + "{{ rsi_14 }}"), ("mine.j2", "rsi_14")),
    "template cannot be rendered": (template(PROMPT + "{{ ticker / 0 }}"), ("mine.j2",)),
    "more prompts than are kept": (settings("verify.prompts=500"), ("verify.prompts", "natural_eval")),
    "no such baseline": (settings("evaluate.must_beat=boosting"), ("evaluate.must_beat", "gradient boosting")),
    "no journal to judge": (settings("evaluate.journal=none.jsonl"), ("evaluate.journal", "none.jsonl")),
    "base folder is empty": (base(), ("base", "config.json")),
    "base without weights": (base(**MISTRAL), ("base", "safetensors")),
    "architecture unknown": (base(architectures=["GPT2LMHeadModel"], model_type="gpt2"), ("GPT2LMHeadModel",)),
    "base is no name": (settings("base.model=no such model!"), ("no such model!", "base.model")),
    "no base GGUF": (settings("base.gguf=none.gguf"), ("none.gguf",)),
    "base GGUF is an adapter": (gguf("base.gguf", lora=True), ("planted.gguf", "LoRA adapter")),
    "base GGUF is another model": (gguf("base.gguf", lora=False, embedding_length=4096), ("embedding_length", "4096")),
    "layer without export": (settings("train.target_modules=q_proj,lm_head"), ("train.target_modules", "lm_head")),
    "merged type unknown": (settings("export.kind=merged", "export.quantize=Q9"), ("export.quantize", "Q9")),
    "no incumbent": (settings("incumbent.adapter=none.gguf"), ("none.gguf",)),
    "incumbent is a whole model": (gguf("incumbent.adapter", lora=False), ("planted.gguf", "whole model")),
    "incumbent cut off": (cut_incumbent, ("old.gguf",)),
    "incumbent of another template": (other_template, ("old.gguf", "template")),
    "state broken": (broken_state, ("active.json",)),
    "context too short": (settings("engine.context=40"), ("engine.context", "40")),
    "no room for an answer": (settings("engine.max_tokens=2040"), ("engine.context", "engine.max_tokens wants 2040")),
    "answers cut off": (settings("engine.max_tokens=12"), ("engine.max_tokens", "verify.min_parsed")),
    "replay in the embargo": (
        settings("replay.start=2022-05-01T00:00", "dataset.test_start=2022-05-01T10:00"),
        ("replay.start", "embargo"),
    ),
    "sequence too short": (settings("train.max_sequence_length=40"), ("train.max_sequence_length", "40")),
    "run folder below a file": (below_a_file("run.folder", "run"), ("occupied", "choose another")),
    "state below a file": (below_a_file("live.state", "live/active.json"), ("live.state", "occupied")),
    "base cache below a file": (own_tiny_below_a_file, ("base.cache", "occupied")),
    "disk full": (full_disk, ("GiB free", "run.folder")),
    "memory too small": (little_memory, ("GiB", "train")),
    "no llama.cpp": (no_llama, ("llama-cpp-python", "pip install")),
    "torch too old": (old_torch, ("1.0 is installed", "torch")),
    "no GPU for train.device": (no_gpu("train.device=cuda"), ("train.device=cuda", "no GPU")),
    "no unsloth": (settings("train.backend=unsloth"), ("unsloth",)),
}


def refused(capsys: pytest.CaptureFixture[str], place: Place, *assignments: str) -> tuple[int, list[str]]:
    """Exit code and error lines of `run`."""
    arguments = ["run", "--config", str(place.file)]
    for assignment in assignments:
        arguments += ["--set", assignment]
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert isinstance(caught.value.code, int)
    return caught.value.code, [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_failure_is_found_before_the_first_stage(
    name: str, place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def began(*_: object, **__: object) -> None:
        raise AssertionError("a stage began")

    monkeypatch.setattr("candletune.stages.pipeline.run_stage", began)
    monkeypatch.chdir(place.folder)
    plant, words = PLANTED[name]
    code, lines = refused(capsys, place, *plant(place, monkeypatch))
    assert code in (2, 3)
    assert any(all(word in line for word in words) for line in lines), lines


def test_nothing_is_refused_where_nothing_is_planted(place: Place) -> None:
    problems = [
        finding
        for one in CHECKS
        if one.subject not in MACHINE
        for finding in one.work(load_config(place.file))
        if finding.level == "problem"
    ]
    assert not problems


def test_all_problems_are_said_at_once(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = ("incumbent.adapter=none.gguf", "data.headlines=none.csv", "engine.context=40")
    code, lines = refused(capsys, place, *wrong)
    assert code == 3
    for word in ("none.gguf", "none.csv", "engine.context"):
        assert sum(word in line for line in lines) == 1
    assert refused(capsys, place, "engine.context=40")[0] == 2


def test_only_what_concerns_the_stages_is_asked(place: Place) -> None:
    config = load_config(place.file, ["incumbent.adapter=none.gguf"])
    assert any("none.gguf" in finding.text for finding in examine(config, ["replay"]))
    assert not any("none.gguf" in finding.text for finding in examine(config, ["train"]))


def test_servers_that_are_there_and_not(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """None is a problem before training: the new adapter can't be in it yet."""
    said = {1: 200, 2: 503, 3: 404}

    def get(url: str, **_: object) -> SimpleNamespace:
        number = int(url.removesuffix("/health").rpartition(":")[2])
        if number not in said:
            raise httpx.ConnectError("refused")
        return SimpleNamespace(status_code=said[number])

    monkeypatch.setattr(httpx, "get", get)
    urls = ",".join(f"http://127.0.0.1:{number}" for number in (1, 2, 3, 4))
    found = [f for f in examine(load_config(place.file, [f"engine.url={urls}"]), ["replay"]) if f.subject == "servers"]
    assert [finding.level for finding in found] == ["ok", "ok", "warning", "warning"]
    assert "127.0.0.1:4: nobody answers; start llama-server there" in found[3].text


def test_a_finished_stage_is_not_asked_about(place: Place) -> None:
    config = load_config(place.file)
    run = RunFolder(config.run.folder)
    assert pending_stages(config, run) == list(STAGES)
    from candletune.stages.dataset import STAGE
    from candletune.stages.runner import run_stage

    with run.lock():
        run_stage(STAGE, config, run, SilentReporter())
    assert pending_stages(config, run) == [name for name in STAGES if name != "dataset"]
    assert pending_stages(config, run, force=True) == list(STAGES)


def test_warnings_are_said_and_do_not_refuse(place: Place) -> None:
    config = load_config(place.file, ["evaluate.min_effective=5000"])
    reporter = SilentReporter()
    preflight(config, RunFolder(config.run.folder), reporter, ["replay"] if _fits() else [])
    assert not _fits() or any("evaluate.min_effective wants 5000" in text for text in reporter.warnings)


def test_few_held_out_rows_are_said_where_they_decide(place: Place) -> None:
    def warned(*assignments: str) -> bool:
        config = load_config(place.file, ["train.objective=utility", *assignments])
        return any(finding.level == "warning" for finding in held_out_rows(config))

    assert warned()
    assert not warned("dataset.natural_eval=2000")
    assert not warned("train.call_share=0.2")
    assert not warned("train.objective=labels")


def _fits() -> bool:
    """Whether this machine has room for a tiny replay now."""
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") > 4 * 2**30


def test_adding_a_check_is_one_function(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("candletune.preflight.findings.CHECKS", [])

    @check("weather", "report")
    def weather(_: Config) -> Iterator[Finding]:
        yield Finding("problem", "weather", "it rains; wait")

    config = load_config(place.file)
    with pytest.raises(PreflightFailed, match="it rains"):
        preflight(config, RunFolder(config.run.folder), SilentReporter(), ["report"])
    preflight(config, RunFolder(config.run.folder), SilentReporter(), ["train"])


def test_it_can_be_skipped(place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def began(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("candletune.stages.pipeline.run_stage", began)
    with pytest.raises(SystemExit) as caught:
        main(["run", "--config", str(place.file), "--no-preflight", "--set", "incumbent.adapter=none.gguf"])
    assert caught.value.code == 130
