"""The replay with an engine of literal answers: what it asks, what it refuses, how it resumes."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from candletune.artifacts import (
    DatasetManifest,
    ExportSummary,
    JudgedModel,
    Metrics,
    ReplaySummary,
    TrainingEnds,
    Verdict,
)
from candletune.calibration import Calibration, prior_offsets
from candletune.config import Config
from candletune.console import SilentReporter
from candletune.dataset.unseen import held_out_rows
from candletune.decide import bare_base, training_ends
from candletune.decide import predictor as predictor_module
from candletune.decide.adapters import AdapterFacts
from candletune.decisions import Decision
from candletune.engines import Generation, packed
from candletune.errors import InputError, UsageError
from candletune.files import read_json, write_json
from candletune.hashes import sha256_path
from candletune.journal import read_frame
from candletune.live.models import active_model
from candletune.live.promotion import promote
from candletune.runs import RunFolder
from candletune.stages import replay as replay_module
from candletune.stages import torch_control, torch_replay
from candletune.stages.dataset import STAGE as DATASET
from candletune.stages.evaluate import evaluate
from candletune.stages.pipeline import prepare
from candletune.stages.register import register
from candletune.stages.replay import STAGE, replay
from candletune.stages.runner import run_stage
from simulated_run import config_of
from stage_entries import record_stage

CHANCES = {None: (0.2, 0.3, 0.5), "incumbent": (0.4, 0.35, 0.25), "candidate": (0.3, 0.5, 0.2)}
Made = tuple[Config, RunFolder]


class FakeEngine:
    """Answers the same to every prompt, by adapter; breaks down after `lives` batches."""

    def __init__(self, lives: int = 10**6) -> None:
        self.lives, self.closed = lives, False
        self.adapters: dict[str, Path] = {}
        self.asked: dict[str | None, int] = {}
        self.name: str | None = None

    def add_adapter(self, name: str, path: Path) -> None:
        self.adapters[name] = path

    def use(self, name: str | None) -> None:
        role = "incumbent" if name is not None and self.adapters[name].name == "old.gguf" else "candidate"
        self.name = None if name is None else role

    def prompt_ids(self, prompt: str) -> list[int]:
        return [1]

    def score(self, prompts: Sequence[str]) -> NDArray[np.float64]:
        self.lives -= 1
        if self.lives < 0:
            raise KeyboardInterrupt
        self.asked[self.name] = self.asked.get(self.name, 0) + len(prompts)
        return np.tile(CHANCES[self.name], (len(prompts), 1))

    def generate(self, prompt: str, *, action: Decision | None = None) -> Generation:
        return Generation(f"DECISION: {action} - because.", True, 5)

    def generate_all(self, prompts: Sequence[str], actions: Sequence[Decision | None]) -> list[Generation]:
        return [self.generate(prompt, action=action) for prompt, action in zip(prompts, actions, strict=True)]

    def close(self) -> None:
        self.closed = True


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Made:
    config = config_of(tmp_path_factory.mktemp("replay"), "replay.stride=6", "replay.limit=60", "replay.reasons=5")
    run = RunFolder(config.run.folder)
    with run.lock():
        config = prepare(config, run, SilentReporter())
        run_stage(DATASET, config, run, SilentReporter())
    return config, run


@pytest.fixture
def made(dataset: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """A run folder with a dataset and two files that stand for adapters."""
    config, source = dataset
    run = RunFolder(tmp_path / "run")
    for name in ("dataset/manifest.json", "manifest.json"):
        run.file(name).parent.mkdir(parents=True, exist_ok=True)
        run.file(name).write_bytes(source.file(name).read_bytes())
    record_stage(run, ExportSummary(kind="adapter"))
    run.file("gguf").mkdir()
    for name in ("gguf/custom-trading-lora.gguf", "gguf/base.gguf", "old.gguf"):
        run.file(name).write_bytes(name.encode())
    for module in (predictor_module, training_ends):
        monkeypatch.setattr(module, "adapter_facts", lambda _path: AdapterFacts())
    return with_tables(config, incumbent={"adapter": run.file("old.gguf")}), run


def with_tables(config: Config, **tables: dict[str, Any]) -> Config:
    return config.model_copy(
        update={name: getattr(config, name).model_copy(update=values) for name, values in tables.items()}
    )


def go(made: Made, monkeypatch: pytest.MonkeyPatch, engine: FakeEngine) -> tuple[ReplaySummary, pl.DataFrame]:
    monkeypatch.setattr(predictor_module, "open_engine", lambda _config, _run, _path: engine)
    summary = replay(*made, SilentReporter())
    return summary, read_frame(made[1].file("replay", "ab_test_log.jsonl"))


def test_both_models_answer_every_row(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine()
    summary, rows = go(made, monkeypatch, engine)
    assert engine.closed
    assert len(rows) == summary.rows == 120
    assert rows["timestamp"].n_unique() == 60
    assert set(rows["active_action"]) == {"BUY"}
    assert set(rows["shadow_action"]) == {"SELL"}
    assert rows["shadow_p_sell"][0] == 0.5
    assert rows["active_reasoning"].drop_nulls().to_list() == ["because."] * 5
    assert rows["shadow_adapter"].n_unique() == rows["active_adapter"].n_unique() == 1
    assert rows["shadow_adapter"][0] == summary.candidate.adapter_sha256
    # the untuned base is asked too, as a baseline
    base = pl.read_parquet(made[1].file("replay", "untuned_base.parquet"))
    assert base["action"].to_list() == ["HOLD"] * 120
    assert base.select("timestamp", "ticker").equals(rows.select("timestamp", "ticker"))


def test_the_bare_base_as_incumbent(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    config, run = made
    made = with_tables(config, incumbent={"adapter": None}), run
    summary, rows = go(made, monkeypatch, FakeEngine())
    assert summary.incumbent == JudgedModel(name="bare base", adapter_sha256=None)
    assert rows["active_adapter"].null_count() == 120
    assert not run.file("replay", "untuned_base.parquet").exists()


def promoted(made: Made) -> tuple[Config, str]:
    """The configuration after the run's candidate was promoted, and that candidate's name."""
    config, run = made
    config = with_tables(config, run={"folder": run.path}, live={"state": run.file("live", "active.json")})
    return config, promote(config, force="test").name


@pytest.mark.usefixtures("any_file_loads")
def test_the_promoted_model_is_the_next_incumbent(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """A monthly retrain is compared with what acts, not with the incumbent of the very first month."""
    run = made[1]
    config, first = promoted(made)
    run.adapter_gguf.write_bytes(b"retrained")
    summary, rows = go((config, run), monkeypatch, FakeEngine())
    assert summary.incumbent == JudgedModel(name=first, adapter_sha256=active_model(config).sha256)
    assert rows["active_adapter"][0] == active_model(config).sha256
    assert summary.candidate.name != first
    assert f"{summary.candidate.name} against {first} (active in live.state)" in summary.headline


@pytest.mark.usefixtures("any_file_loads")
def test_looking_again_after_a_promotion_compares_the_same_two(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    before = go(made, monkeypatch, FakeEngine())[0]
    inputs = {name: sha256_path(path) for name, path in STAGE.inputs(*made).items()}
    config, name = promoted(made)
    assert {key: sha256_path(path) for key, path in STAGE.inputs(config, made[1]).items()} == inputs
    engine = FakeEngine()
    after = go((config, made[1]), monkeypatch, engine)[0]
    assert after.incumbent.adapter_sha256 == before.incumbent.adapter_sha256
    assert after.candidate == before.candidate.model_copy(update={"name": name})


def test_where_the_incumbent_is_named_is_said(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "against old (incumbent.adapter)" in go(made, monkeypatch, FakeEngine())[0].headline
    bare = with_tables(made[0], incumbent={"adapter": None}), made[1]
    assert "against bare base (no incumbent.adapter)" in go(bare, monkeypatch, FakeEngine())[0].headline


def test_a_merged_candidate_is_a_model_of_its_own(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    config, run = made
    record_stage(run, ExportSummary(kind="merged"))
    run.merged_gguf.write_bytes(b"whole")
    opened: dict[Path | None, FakeEngine] = {}

    def open_engine(_config: Config, _run: RunFolder, path: Path | None) -> FakeEngine:
        return opened.setdefault(path, FakeEngine())

    monkeypatch.setattr(predictor_module, "open_engine", open_engine)
    summary = replay(config, run, SilentReporter())
    assert summary.candidate.adapter_sha256 == sha256_path(run.merged_gguf)
    assert set(opened) == {None, run.merged_gguf}
    assert opened[run.merged_gguf].asked == {None: 120}
    assert opened[None].asked == {"incumbent": 120, None: 120}  # the untuned base, as a baseline
    assert all(engine.closed for engine in opened.values())


def test_a_killed_replay_goes_on_where_it_was(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = go(made, monkeypatch, FakeEngine())[1]
    made[1].file("replay", "ab_test_log.jsonl").unlink()
    with pytest.raises(KeyboardInterrupt):
        go(made, monkeypatch, FakeEngine(lives=3))
    assert len(read_frame(made[1].file("replay", "ab_test_log.jsonl"))) == 64
    second = FakeEngine()
    rows = go(made, monkeypatch, second)[1]
    assert second.asked["candidate"] == 120 - 64
    volatile = ["active_latency_ms", "shadow_latency_ms"]
    assert rows.drop(volatile).equals(whole.drop(volatile))


def test_other_settings_start_another_journal_and_keep_the_old(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    go(made, monkeypatch, FakeEngine())
    config, run = made
    other = with_tables(config, replay={"limit": 30}), run
    assert len(go(other, monkeypatch, FakeEngine())[1]) == 60
    kept = [path for path in run.file("replay").glob("ab_test_log.*.jsonl")]
    assert len(kept) == 1
    assert len(read_frame(kept[0])) == 120


def test_probabilities_are_calibrated_and_the_decision_is_not(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = AdapterFacts(calibration=Calibration(offsets=prior_offsets((1 / 3, 1 / 3, 1 / 3), (0.1, 0.1, 0.8))))
    monkeypatch.setattr(predictor_module, "adapter_facts", lambda _path: facts)
    rows = go(made, monkeypatch, FakeEngine())[1]
    # 0.3 * 0.1, 0.5 * 0.1, 0.2 * 0.8, renormalised
    assert rows["shadow_p_hold"][0] == pytest.approx(0.16 / 0.24)
    assert set(rows["shadow_action"]) == {"SELL"}


def test_another_template_is_refused(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictor_module, "adapter_facts", lambda _path: AdapterFacts(template_sha256="f" * 64))
    with pytest.raises(InputError, match="trained with template ffffffffffff"):
        go(made, monkeypatch, FakeEngine())


def test_rows_the_training_saw_are_refused_or_marked(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    config, run = made
    train_end = datetime.fromisoformat(read_json(run.file("dataset", "manifest.json"))["train_end"])
    first = train_end + timedelta(hours=config.labels.horizon)
    early = with_tables(config, replay={"start": first - timedelta(hours=1)})
    with pytest.raises(InputError, match=r"the end of the training data plus dataset\.embargo"):
        go((early, run), monkeypatch, FakeEngine())
    assert not held_out_rows(with_tables(config, replay={"start": first}), train_end)[1]
    forced = with_tables(early, replay={"force": True})
    summary, rows = go((forced, run), monkeypatch, FakeEngine())
    assert summary.forced
    assert rows["forced"].all()
    assert "FORCED" in summary.headline


def trained_until(monkeypatch: pytest.MonkeyPatch, **ends: datetime) -> None:
    """What the two files say of their training: `candidate`, `incumbent`, or nothing."""

    def facts(path: Path) -> AdapterFacts:
        return AdapterFacts(train_end=ends.get("incumbent" if path.name == "old.gguf" else "candidate"))

    for module in (predictor_module, training_ends):
        monkeypatch.setattr(module, "adapter_facts", facts)


def test_a_dataset_made_anew_does_not_hide_what_the_candidate_was_trained_on(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dataset now ends a month earlier and its test period begins earlier; the adapter saw that month."""
    config, run = made
    manifest = read_json(run.dataset_manifest)
    saw = datetime.fromisoformat(manifest["train_end"])
    earlier = {key: (datetime.fromisoformat(manifest[key]) - timedelta(days=30)) for key in ("train_end", "test_start")}
    write_json(run.dataset_manifest, manifest | {key: time.isoformat() for key, time in earlier.items()})
    config = with_tables(config, dataset={"test_start": earlier["test_start"]})
    trained_until(monkeypatch, candidate=saw)
    with pytest.raises(InputError, match=r"the end of the candidate's \(custom-trading-lora.*\) training data"):
        go((config, run), monkeypatch, FakeEngine())
    summary, rows = go((with_tables(config, replay={"force": True}), run), monkeypatch, FakeEngine())
    assert summary.forced
    assert rows["forced"].all()
    later = with_tables(config, replay={"start": saw + config.candle * config.dataset.embargo})
    summary, rows = go((later, run), monkeypatch, FakeEngine())
    assert not summary.forced
    assert summary.training_ends == TrainingEnds(candidate=saw.isoformat(), incumbent=None)


def test_what_the_incumbent_was_trained_on_counts_too(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    config, run = made
    assert config.dataset.test_start is not None
    end = config.dataset.test_start + timedelta(days=20)
    trained_until(monkeypatch, incumbent=end)
    with pytest.raises(InputError, match=r"the end of the incumbent's \(old\) training data"):
        go(made, monkeypatch, FakeEngine())
    assert go((with_tables(config, replay={"force": True}), run), monkeypatch, FakeEngine())[1]["forced"].all()
    later = with_tables(config, replay={"start": end + timedelta(hours=12)}), run
    summary, rows = go(later, monkeypatch, FakeEngine())
    assert not rows["forced"].any()
    assert summary.training_ends.incumbent == end.isoformat()


@pytest.mark.parametrize("embargo", [0, 3, 30])
def test_whatever_the_embargo_the_replay_may_begin_where_the_training_was_told_to_end(made: Made, embargo: int) -> None:
    """The dataset keeps horizon and embargo free before the test period, so its first decision is always allowed."""
    config = with_tables(made[0], dataset={"embargo": embargo})
    assert config.dataset.test_start is not None
    latest_end = config.dataset.test_start - config.candle * (embargo + 1)
    rows, forced = held_out_rows(config, latest_end)
    assert not forced
    assert rows["decision_time"][0] >= config.dataset.test_start


def test_context_that_differs_from_the_trainings_is_said(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """The replay's context files are those of the configuration, which need not be those of either training."""
    config, run = made
    days = pl.datetime_range(datetime(2021, 12, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC), "1d", eager=True)
    file = run.file("fear_greed.csv")
    pl.DataFrame({"date": days.dt.strftime("%Y-%m-%d"), "value": [20] * len(days)}).write_csv(file)
    with_file = with_tables(config, data={"fear_greed": file})
    for now, trained, words in (
        (with_file, {"fear_greed": 0.0, "headlines": 0.0}, "trained on placeholders"),
        (config, {"fear_greed": 0.9, "headlines": 0.0}, "misses what it was trained with"),
        (with_file, {"fear_greed": 0.9, "headlines": 0.0}, ""),
        (config, None, ""),
    ):
        facts = AdapterFacts(context_sources=trained)
        monkeypatch.setattr(predictor_module, "adapter_facts", lambda _path, facts=facts: facts)
        monkeypatch.setattr(predictor_module, "open_engine", lambda _config, _run, _path: FakeEngine())
        reporter = SilentReporter()
        replay(now, run, reporter)
        said = [text for text in reporter.warnings if "data.fear_greed" in text]
        assert len(said) == (2 if words else 0), "the incumbent's and the candidate's, or none"
        assert all(words in text for text in said)


def evaluated(made: Made, summary: ReplaySummary) -> Verdict:
    record_stage(made[1], summary)
    evaluate(*made, SilentReporter())
    return Verdict.read(made[1].verdict)


def test_a_registered_replay_is_judged_by_the_bound_of_one_look(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = with_tables(made[0], evaluate={"ledger": tmp_path / "alone.jsonl", "baselines": False}), made[1]
    config = with_tables(made[0], evaluate={"ledger": tmp_path / "ledger.jsonl", "baselines": False})
    reporter = SilentReporter()
    registered = register(with_tables(config, simulate={"enabled": False}), made[1], reporter)
    assert (registered.number, registered.level) == (1, 0.025)
    assert any("replay.end=2022-" in text for text in reporter.warnings)
    summary = go((config, made[1]), monkeypatch, FakeEngine())[0]
    verdict = evaluated((config, made[1]), summary)
    assert verdict.spent is not None
    assert verdict.spent == registered
    assert any("registered before the replay" in note for note in verdict.notes)
    narrow = Metrics.read(made[1].metrics).comparison
    assert evaluated((config, made[1]), summary).spent == registered  # the same look again
    assert evaluated(alone, summary).spent != registered
    wide = Metrics.read(made[1].metrics).comparison
    assert narrow.accuracy_signals == wide.accuracy_signals
    assert (narrow.one_look, wide.one_look) == (True, False)
    assert narrow.alpha == wide.alpha == 0.025
    # how much narrower that is, is in test_times: after two months the ends are as far away as they can be
    assert register(config, made[1], SilentReporter()) == registered  # an interrupted run asks again
    afresh = with_tables(config, evaluate={"ledger": tmp_path / "fresh.jsonl"})
    with pytest.raises(UsageError, match=r"holds answers of custom-trading-lora.* already; register before the replay"):
        register(afresh, made[1], SilentReporter())
    other = RunFolder(made[1].path)
    other.journal = made[1].path / "elsewhere" / "log.jsonl"
    with pytest.raises(UsageError, match="was looked at on these candles already"):
        register(alone[0], other, SilentReporter())


def test_other_rows_than_the_registered_ones_have_no_narrow_bound(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = with_tables(made[0], evaluate={"ledger": tmp_path / "ledger.jsonl", "baselines": False})
    register(config, made[1], SilentReporter())
    start = config.dataset.test_start
    assert start is not None
    cut = with_tables(config, replay={"end": start + timedelta(days=10), "limit": 0})
    verdict = evaluated((cut, made[1]), go((cut, made[1]), monkeypatch, FakeEngine())[0])
    assert verdict.spent is not None
    assert (verdict.spent.number, verdict.spent.registered) == (2, None)


def test_what_cannot_be_registered(made: Made, tmp_path: Path) -> None:
    config = with_tables(made[0], evaluate={"ledger": tmp_path / "ledger.jsonl"})
    shadow = with_tables(config, evaluate={"journal": tmp_path / "log.jsonl"})
    with pytest.raises(UsageError, match="only a replay can be registered"):
        register(shadow, made[1], SilentReporter())
    assert config.dataset.test_start is not None
    forced = with_tables(config, replay={"start": config.dataset.test_start - timedelta(days=9), "force": True})
    with pytest.raises(UsageError, match=r"replay\.force"):
        register(forced, made[1], SilentReporter())
    assert not (tmp_path / "ledger.jsonl").exists()


class FakeScorer:
    """PyTorch's part: the engine's chances, but for `wrong` prompts, where it takes BUY for the likeliest."""

    wrong: ClassVar[set[str]] = set()
    parts: ClassVar[list[int]] = []

    def __init__(self, base: Path, config: Config, say: Any) -> None:
        self.names: dict[str, str] = {}

    def add_adapter(self, name: str, path: Path) -> None:
        self.names[name] = "incumbent" if path.name == "old.gguf" else "candidate"

    def prepare(self, prompts: Any) -> None:
        list(prompts)

    def score(self, asked: Mapping[str | None, Sequence[str]]) -> dict[str | None, NDArray[np.float64]]:
        self.parts.append(sum(map(len, asked.values())))
        return {
            name: np.array([self.one(self.names.get(name or ""), prompt) for prompt in prompts]).reshape(-1, 3)
            for name, prompts in asked.items()
        }

    def one(self, role: str | None, prompt: str) -> tuple[float, float, float]:
        if role == "candidate" and prompt in self.wrong:
            return (0.5, 0.49, 0.01)
        return CHANCES[role]

    def close(self) -> None:
        pass


@pytest.fixture
def by_torch(made: Made, monkeypatch: pytest.MonkeyPatch) -> Made:
    """A replay that PyTorch decides: 20 control rows and 5 near a tie for each model, parts of 50 rows."""
    FakeScorer.wrong, FakeScorer.parts = set(), []
    monkeypatch.setattr(packed, "PackedScorer", FakeScorer)
    monkeypatch.setattr(torch_replay, "_refusal", lambda *_: None)
    monkeypatch.setattr(torch_replay, "PART", 50)
    monkeypatch.setattr(torch_control, "NEAR_TIES", 5)
    monkeypatch.setattr(replay_module, "CONTROL", 20)
    return with_tables(made[0], replay={"engine": "torch"}), made[1]


def go_by_torch(made: Made, monkeypatch: pytest.MonkeyPatch, engine: FakeEngine) -> tuple[ReplaySummary, pl.DataFrame]:
    monkeypatch.setattr(torch_replay, "open_engine", lambda _config, _run, _path: engine)
    return go(made, monkeypatch, engine)


def test_pytorch_decides_and_llama_cpp_is_asked_a_sample(by_torch: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine()
    alone = go((with_tables(by_torch[0], replay={"engine": "llama.cpp"}), by_torch[1]), monkeypatch, FakeEngine())[1]
    summary, rows = go_by_torch(by_torch, monkeypatch, engine)
    volatile = ["active_latency_ms", "shadow_latency_ms"]
    assert rows.drop(volatile).equals(alone.drop(volatile))
    control = summary.control
    assert control is not None
    # 20 rows spread and 5 with a reason, two of them (first and last) the same; and 5 near a tie
    assert (control.decided, control.rows, control.answers, control.near_ties) == ("torch", 23, 46, 10)
    assert (control.agreement, control.largest_gap) == (1.0, 0.0)
    assert engine.asked == {"incumbent": 28, "candidate": 28}
    assert engine.closed
    assert FakeScorer.parts == [150, 150, 60]  # both models and the untuned base
    assert not torch_replay.scratch(by_torch[1]).exists()
    config, run = by_torch
    verdict = evaluated((with_tables(config, evaluate={"baselines": False}), run), summary)
    assert any("100.00% of 46 decisions are llama.cpp's too" in note for note in verdict.notes)
    assert Metrics.read(run.metrics).control == control


def test_a_decision_near_a_tie_is_llama_cpps(by_torch: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three rows on which PyTorch falls the other way; they are not among those that are spread."""
    config, run = by_torch
    prompts = held_out_rows(config, DatasetManifest.read(run.dataset_manifest).train_end)[0]["prompt"].to_list()
    FakeScorer.wrong = {prompts[3], prompts[53], prompts[103]}
    summary, rows = go_by_torch(by_torch, monkeypatch, FakeEngine())
    assert set(rows["shadow_action"]) == {"SELL"}
    assert summary.control is not None
    assert summary.control.agreement == 1.0
    assert summary.control.near_agreement == 0.7
    assert summary.control.largest_gap == pytest.approx(0.2)


def test_below_the_agreement_llama_cpp_decides_alone(by_torch: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    config, run = by_torch
    prompts = held_out_rows(config, DatasetManifest.read(run.dataset_manifest).train_end)[0]["prompt"].to_list()
    FakeScorer.wrong = set(prompts[:7])
    engine = FakeEngine()
    summary, rows = go_by_torch(by_torch, monkeypatch, engine)
    assert summary.control is not None
    assert summary.control.decided == "llama.cpp"
    assert summary.control.agreement < 0.99
    assert set(rows["shadow_action"]) == {"SELL"}
    assert engine.asked["candidate"] == 120 + 28


def test_a_killed_replay_by_pytorch_goes_on_and_gives_the_same_journal(
    by_torch: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = by_torch[1]
    whole = go_by_torch(by_torch, monkeypatch, FakeEngine())[1]
    run.journal.unlink()
    score = FakeScorer.score

    def killed_once(self: FakeScorer, asked: Mapping[str | None, Sequence[str]]) -> Any:
        if len(FakeScorer.parts) == 2:
            raise KeyboardInterrupt
        return score(self, asked)

    FakeScorer.parts = []
    monkeypatch.setattr(FakeScorer, "score", killed_once)
    with pytest.raises(KeyboardInterrupt):
        go_by_torch(by_torch, monkeypatch, FakeEngine())
    monkeypatch.setattr(FakeScorer, "score", score)
    FakeScorer.parts = []
    with pytest.raises(KeyboardInterrupt):  # while llama.cpp is asked
        go_by_torch(by_torch, monkeypatch, FakeEngine(lives=1))
    assert FakeScorer.parts == [60]
    rows = go_by_torch(by_torch, monkeypatch, FakeEngine())[1]
    assert FakeScorer.parts == [60]
    volatile = ["active_latency_ms", "shadow_latency_ms"]
    assert rows.drop(volatile).equals(whole.drop(volatile))


def test_auto_asks_pytorch_only_on_a_card(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = (bare_base(),)
    assert not torch_replay.torch_decides(*made, pair, SilentReporter())
    monkeypatch.setattr(torch_replay, "_on_card", lambda _config: True)
    monkeypatch.setattr(torch_replay, "_refusal", lambda *_: None)
    assert torch_replay.torch_decides(*made, pair, SilentReporter())
    served = with_tables(made[0], engine={"url": ("http://127.0.0.1:9",)})
    assert not torch_replay.torch_decides(served, made[1], pair, SilentReporter())
    monkeypatch.setattr(torch_replay, "_refusal", lambda *_: "it is too large")
    assert not torch_replay.torch_decides(*made, pair, SilentReporter())
    wanted = with_tables(made[0], replay={"engine": "torch"})
    with pytest.raises(UsageError, match=r"replay\.engine: torch cannot score this replay \(it is too large\)"):
        torch_replay.torch_decides(wanted, made[1], pair, SilentReporter())


def test_no_candles_no_replay(made: Made) -> None:
    with pytest.raises(InputError, match="no candles from 2031"):
        held_out_rows(
            with_tables(made[0], replay={"start": datetime(2031, 1, 1, tzinfo=UTC)}), datetime(2022, 1, 1, tzinfo=UTC)
        )


def test_without_a_start_the_first_unseen_row_is_the_first(made: Made) -> None:
    config = with_tables(made[0], dataset={"test_start": None}, replay={"limit": 0, "stride": 1})
    end = datetime(2022, 6, 1, tzinfo=UTC)
    rows, forced = held_out_rows(config, end)
    assert rows["decision_time"][0] == end + timedelta(hours=12)
    assert not forced
