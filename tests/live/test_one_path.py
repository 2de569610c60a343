"""A replay proves something about the live side: the same rows, the same engine, the same bytes."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from fakes import FakeEngine

from candletune.artifacts import ExportSummary
from candletune.calibration import Calibration
from candletune.config import Config
from candletune.console import SilentReporter
from candletune.dataset import decision_rows
from candletune.decide import predictor as predictor_module
from candletune.decide import training_ends
from candletune.decide.adapters import AdapterFacts
from candletune.files import read_json
from candletune.journal import Journal, Role, read_rows
from candletune.live.models import candidate_model
from candletune.live.shadow import Due, ShadowLoop
from candletune.live.signal import Trader, answer_text
from candletune.prompts.context import context_of
from candletune.runs import RunFolder
from candletune.stages.dataset import STAGE as DATASET
from candletune.stages.pipeline import prepare
from candletune.stages.replay import replay
from candletune.stages.runner import run_stage
from simulated_run import config_of
from stage_entries import record_stage

Made = tuple[Config, RunFolder, dict[tuple[Any, str], dict[str, Any]]]
COMPARED = ("status", "action", "reasoning", "probabilities", "adapter_sha256", "error")


class MumblingEngine(FakeEngine):
    """Some prompts get probabilities that are none, some a reason that does not parse."""

    def score(self, prompts: Any) -> Any:
        found = super().score(prompts)
        found[[hash_of(prompt) % 11 == 0 for prompt in prompts]] = np.nan
        return found

    def generate(self, prompt: str, *, action: Any = None) -> Any:
        said = super().generate(prompt, action=action)
        return said if hash_of(prompt) % 7 else type(said)("I would rather not.", True, 4)


def hash_of(prompt: str) -> int:
    return sum(prompt.encode())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """A replay with a reason for every row, and a calibration; and the rows' contexts."""
    folder = tmp_path_factory.mktemp("path")
    config = config_of(folder, "replay.stride=7", "replay.limit=70", "replay.reasons=1000")
    run = RunFolder(config.run.folder)
    with run.lock():
        config = prepare(config, run, SilentReporter())
        run_stage(DATASET, config, run, SilentReporter())
    record_stage(run, ExportSummary(kind="adapter"))
    run.gguf.mkdir()
    for path in (run.adapter_gguf, run.base_gguf, folder / "old.gguf"):
        path.write_bytes(path.name.encode())
    incumbent = config.incumbent.model_copy(update={"adapter": folder / "old.gguf"})
    config = config.model_copy(update={"incumbent": incumbent})
    facts = AdapterFacts(calibration=Calibration(1.7, (-0.9, -0.8, 0.0), 300))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predictor_module, "adapter_facts", lambda _path: facts)
        patch.setattr(training_ends, "adapter_facts", lambda _path: facts)
        patch.setattr(predictor_module, "open_engine", lambda _config, _run, _path: MumblingEngine())
        replay(config, run, SilentReporter())
        yield config, run, contexts(config, run)


def contexts(config: Config, run: RunFolder) -> dict[tuple[Any, str], dict[str, Any]]:
    """What a trader would have sent at each replayed decision time, through JSON."""
    asked = pl.DataFrame([(row["timestamp"], row["ticker"]) for row in read_rows(run.journal)], orient="row")
    wanted = set(asked.rows())
    rows = decision_rows(config, start=config.dataset.test_start).iter_rows(named=True)
    found = {}
    for row in rows:
        key = (row["decision_time"].isoformat().replace("+00:00", "Z"), row["asset"])
        if key in wanted:
            found[key] = json.loads(json.dumps(context_of(row)))
    assert len(found) == len(wanted) == 140
    return found


def bytes_of(side: Mapping[str, Any]) -> bytes:
    return json.dumps({key: side[key] for key in COMPARED}).encode()


def test_replay_and_signal_give_the_same_bytes(made: Made) -> None:
    config, run, sent = made
    trader = Trader(config, engine=MumblingEngine())
    models = {Role.INCUMBENT: trader.active, Role.CANDIDATE: candidate_model(run)}
    seen = set()
    for row in read_rows(run.journal):
        context = sent[row["timestamp"], row["ticker"]]
        for role, model in models.items():
            found = trader.predict(context, model=model)
            assert bytes_of(found.side().record()) == bytes_of(row[role.side])
            assert found.prompt_sha256 == row["prompt_sha256"]
            seen.add(found.status if found.error is None else found.error)
    assert len(seen) == 3, "an answer, numbers that are none and a reason that does not parse were all compared"


def test_serve_answers_what_was_replayed(made: Made) -> None:
    config, run, sent = made
    trader = Trader(config, engine=MumblingEngine())
    unlike = 0
    for row in read_rows(run.journal):
        text = json.dumps(sent[row["timestamp"], row["ticker"]] | {"_lora_override": "candidate"})
        answer, code = answer_text(trader, text)
        shadow = row["shadow"]
        assert code == 0
        assert (answer["action"], answer["reasoning"] or None) == (shadow["action"], shadow["reasoning"])
        if shadow["status"] == "ok":
            probabilities = answer["probabilities"]
            assert probabilities is not None
            assert probabilities == pytest.approx(shadow["probabilities"], abs=1e-6)
            assert answer["confidence"] == pytest.approx(
                max(p for name, p in probabilities.items() if name == shadow["action"])
            )
            unlike += max(probabilities, key=probabilities.__getitem__) != shadow["action"]
        else:
            assert answer["probabilities"] is None
            assert answer["confidence"] is None
    assert unlike, "the decision is what the model says first, whatever its calibrated probabilities"


def test_shadow_logs_what_was_replayed(made: Made, tmp_path: Path) -> None:
    config, run, sent = made
    loop = ShadowLoop(
        Trader(config, engine=MumblingEngine()),
        Journal(tmp_path / "log.jsonl"),
        candidate=lambda: candidate_model(run),
        base_sha256=read_json(run.dataset_manifest).get("base_sha256", "0" * 64),
        emit=lambda _: None,
        reporter=SilentReporter(),
    )
    replayed = list(read_rows(run.journal))
    from candletune.journal import parse_time

    loop.cycle(
        [
            Due(parse_time(row["timestamp"]), row["ticker"], row["price"], sent[row["timestamp"], row["ticker"]])
            for row in replayed
        ]
    )
    logged = list(read_rows(tmp_path / "log.jsonl"))
    assert [row["prompt_sha256"] for row in logged] == [row["prompt_sha256"] for row in replayed]
    for role in Role:
        assert list(map(bytes_of, (row[role.side] for row in logged))) == list(
            map(bytes_of, (row[role.side] for row in replayed))
        )
