"""Settings tried on the eval split: which, in what order, what stops one, what a broken one does, and going on."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from candletune.artifacts.ledger import LEDGER_LINE
from candletune.artifacts.sweep import Sweep, Trial, TrialState
from candletune.cli import main
from candletune.config import Config, load_config
from candletune.console import Reporter, SilentReporter
from candletune.errors import InputError, UsageError
from candletune.evaluation.ledger import Ledger
from candletune.experiments import scores, shared_base
from candletune.experiments.pruning import hopeless_at
from candletune.experiments.search import search_of
from candletune.experiments.space import check_space, grid, trial_config, trial_name, trial_toml
from candletune.experiments.sweep import run_sweep
from candletune.experiments.sweep_table import sweep_text
from candletune.experiments.winner import judge_winner
from candletune.files import make_folder, write_text
from candletune.runs import RunFolder
from candletune.stages.pipeline import prepare
from candletune.training.metrics import append_metrics

ROOT = Path(__file__).parents[2]
TABLE = """
[simulate]
enabled = true
years = 0.4
[dataset]
per_class = 20
natural_eval = 40
test_start = 2022-05-01
[train]
eval_steps = 1
[sweep]
"train.lora_rank" = [8, 16, 32]
train.learning_rate = [1e-4, 5e-5]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "sweep.toml"
    path.write_text(TABLE + f"[run]\nfolder = '{tmp_path / 'run'}'\n[live]\nstate = '{tmp_path / 'live' / 'a.json'}'\n")
    return path


class Trained:
    """Stands in for a training: its eval log loss falls to what the rank says; the last one can be made to break."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.broken = ""
        self.killed_at = ""

    def __call__(self, config: Config, run: RunFolder, reporter: Reporter) -> float:
        name = run.path.name
        if name == self.killed_at:
            raise KeyboardInterrupt
        if name == self.broken:
            raise RuntimeError("CUDA error: device-side assert")
        final = 1.0 - config.train.lora_rank / 1000 + config.train.learning_rate
        run.train_metrics.unlink(missing_ok=True)
        make_folder(run.checkpoints / "checkpoint-1")
        with reporter.task("training", 6) as bar:
            for step in range(1, 7):
                bar.advance()
                append_metrics(run.train_metrics, {"step": step, "eval_log_loss": final + 0.1 / step})
        self.done.append(name)
        return final


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Iterator[Trained]:
    fake = Trained()
    monkeypatch.setitem(scores.SCORES, "llm", fake)
    monkeypatch.setattr("candletune.experiments.sweep.with_shared_base", lambda config, *_: config)
    yield fake


def sweep(file: Path, *assignments: str) -> Sweep:
    config = load_config(file, assignments)
    run = RunFolder(config.run.folder)
    with run.lock():
        return run_sweep(prepare(config, run, SilentReporter()), run, SilentReporter(), folder=file.parent)


def test_the_table_takes_dotted_quoted_and_nested_keys(file: Path) -> None:
    config = load_config(file)
    assert dict(config.sweep.settings) == {"train.lora_rank": (8, 16, 32), "train.learning_rate": (1e-4, 5e-5)}
    assert grid(config)[:2] == [
        {"train.lora_rank": 8, "train.learning_rate": 1e-4},
        {"train.lora_rank": 8, "train.learning_rate": 5e-5},
    ]
    assert len(grid(config)) == 6
    assert len(grid(load_config(file, ["sweep.trials=4"]))) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('"train.lora_rnk" = [8]', "did you mean train.lora_rank"),
        ('"labels.threshold" = [0.01, 0.02]', "cannot be swept"),
        ('"evaluate.min_gain" = [0.0]', "cannot be swept"),
        ('"dataset.test_start" = ["2024-01-01"]', "cannot be swept"),
        ('"train.learning_rate" = {low = 1e-5, high = 1e-3}', "has no grid"),
        ('"train.lora_rank" = []', "name at least one"),
        ('"train.lora_rank" = 8', "train.lora_rank"),
        ('"train.learning_rate" = {low = 2, high = 1}', "low must be below high"),
        ("lora_rank = [8]", "unknown key"),
        ("", "names no setting"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(f"[sweep]\n{text}\n")
    with pytest.raises(UsageError, match=message):
        check_space(load_config(path))


def test_a_wrong_value_is_refused_before_anything_is_trained(file: Path, trained: Trained) -> None:
    write_text(file, file.read_text().replace("[8, 16, 32]", "[8, 0]"))
    with pytest.raises(UsageError, match=r"train.lora_rank = 0.*train.lora_rank"):
        sweep(file)
    assert trained.done == []


def test_the_lowest_log_loss_wins(file: Path, trained: Trained) -> None:
    found = sweep(file, "sweep.prune=false")
    assert found.winner == "lora_rank-32_learning_rate-5e-05"
    assert (len(trained.done), found.count("finished"), found.planned) == (6, 6, 6)
    assert {entry.rows for entry in found.trials} == {40}
    assert {round(entry.base_log_loss or 0, 6) for entry in found.trials} == {
        round(found.trials[0].base_log_loss or 0, 6)
    }
    best = found.best()
    assert best is not None and best.score == pytest.approx((best.log_loss or 0) - (best.base_log_loss or 0))
    text = sweep_text(found)
    assert "* train.lora_rank = 32" in text
    assert max(map(len, text.splitlines())) <= 80


def test_no_trial_touches_the_replay_range(file: Path, trained: Trained) -> None:
    found = sweep(file)
    home = RunFolder(load_config(file).run.folder).sweep
    for entry in found.trials:
        assert not (home / entry.name / "replay").exists()
        manifest = json.loads((home / entry.name / "dataset" / "manifest.json").read_text())
        assert manifest["train_end"] < "2022-05-01"


def test_the_winner_can_go_on_by_itself(file: Path, trained: Trained) -> None:
    found = sweep(file)
    ready = load_config(RunFolder(load_config(file).run.folder).sweep / "winner.toml")
    assert ready.run.folder.name == found.winner
    assert (ready.train.lora_rank, ready.train.learning_rate) == (32, 5e-5)
    assert ready.notify.events == ()


def test_a_hopeless_trial_is_stopped(file: Path, trained: Trained) -> None:
    write_text(file, file.read_text().replace("[8, 16, 32]", "[32, 16, 8]").replace("[1e-4, 5e-5]", "[5e-5]"))
    write_text(file, file.read_text().replace("[32, 16, 8]", "[36, 35, 34, 33, 4]"))
    found = sweep(file)
    assert [entry.state for entry in found.trials] == ["finished"] * 4 + ["pruned"]
    assert (found.trials[-1].step, len(trained.done)) == (1, 4)
    kept = [
        (load_config(file).run.folder / "sweep" / entry.name / "train/checkpoints").exists() for entry in found.trials
    ]
    assert kept == [True] * 4 + [False]
    assert sweep(file).trials == found.trials
    assert len(trained.done) == 4 + 4  # this stand-in skips nothing; what was pruned is not trained again


def test_the_median_rule() -> None:
    before = [{2: value, 4: value - 0.1} for value in (1.0, 1.1, 1.2, 1.3)]
    assert hopeless_at({2: 1.16}, before) == 2
    assert hopeless_at({2: 1.14}, before) is None
    assert hopeless_at({2: 1.14, 4: 1.2}, before) == 4  # its best, 1.14, is above 1.05
    assert hopeless_at({2: 9.0}, before[:3]) is None  # too few
    assert hopeless_at({3: 9.0}, before) is None  # nobody was there


def test_a_failed_trial_is_told_and_the_others_go_on(file: Path, trained: Trained) -> None:
    trained.broken = "lora_rank-32_learning_rate-5e-05"
    found = sweep(file)
    failed = found.trial(trained.broken)
    assert failed is not None
    assert (failed.state, failed.score) == ("failed", None)
    assert "device-side assert" in failed.reason
    assert found.winner == "lora_rank-32_learning_rate-0.0001"
    assert "FAILED" not in sweep_text(found) and "failed" in sweep_text(found)
    trained.broken = ""
    assert sweep(file).winner == "lora_rank-32_learning_rate-5e-05"


def test_nothing_finished(file: Path, trained: Trained) -> None:
    write_text(file, file.read_text().replace("[8, 16, 32]", "[8]").replace("[1e-4, 5e-5]", "[1e-4]"))
    trained.broken = "lora_rank-8_learning_rate-0.0001"
    with pytest.raises(InputError, match="no trial finished; the first reason: RuntimeError: CUDA error"):
        sweep(file)


def test_a_sweep_that_was_cut_off_goes_on(file: Path, trained: Trained) -> None:
    trained.killed_at = "lora_rank-16_learning_rate-5e-05"
    with pytest.raises(KeyboardInterrupt):
        sweep(file)
    half = Sweep.read(RunFolder(load_config(file).run.folder).sweep / "sweep.json")
    assert (len(half.trials), half.winner) == (3, None)
    trained.killed_at = ""
    whole = sweep(file)
    assert whole.winner == "lora_rank-32_learning_rate-5e-05"
    assert whole.trials[:3] == half.trials


def test_the_ledger_knows_where_the_winner_comes_from(file: Path, trained: Trained) -> None:
    found = sweep(file)
    sweep(file)
    path = load_config(file).live.state.with_name("ledger.jsonl")
    lines = [LEDGER_LINE.validate_json(line) for line in path.read_text().splitlines()]
    assert [line.event for line in lines] == ["sweep"]
    assert getattr(lines[0], "trials", 0) == len(found.trials)
    assert Ledger(path).tries() == {}


def test_optuna_draws_the_same_again(file: Path, trained: Trained) -> None:
    pytest.importorskip("optuna")
    write_text(
        file,
        file.read_text()
        .replace("[1e-4, 5e-5]", "{low = 1e-5, high = 1e-3, log = true}")
        .replace("[8, 16, 32]", "{low = 4, high = 64}"),
    )
    trained.killed_at = "nobody"
    found = sweep(file, "sweep.method=optuna", "sweep.trials=8")
    assert len(found.trials) == 8
    ranks = [entry.settings["train.lora_rank"] for entry in found.trials]
    assert all(isinstance(rank, int) and 4 <= rank <= 64 for rank in ranks)
    again = sweep(file, "sweep.method=optuna", "sweep.trials=8")
    assert [entry.name for entry in again.trials] == [entry.name for entry in found.trials]


@pytest.mark.parametrize("at_a_time", [2, 5, 99])
def test_optuna_proposes_the_same_however_many_are_under_way(file: Path, at_a_time: int) -> None:
    pytest.importorskip("optuna", reason="the extra `sweep` is not installed")
    write_text(file, file.read_text().replace("[1e-4, 5e-5]", "{low = 1e-5, high = 1e-3, log = true}"))
    config = load_config(file, ["sweep.method=optuna", "sweep.trials=16"])

    def proposed(most: int) -> list[dict[str, Any]]:
        search, under_way, found = search_of(config), list[Any](), list[dict[str, Any]]()
        while True:
            while len(under_way) < most and (settings := search.ask()) is not None:
                under_way.append(settings)
                found.append(dict(settings))
            if not under_way:
                return found
            settings = under_way.pop(0)
            loss = abs(settings["train.learning_rate"] - 3e-4) + settings["train.lora_rank"] / 1000
            state: TrialState = "failed" if settings["train.lora_rank"] == 8 else "finished"
            search.tell(Trial(name="-", settings=settings, state=state, log_loss=loss, base_log_loss=0.0))

    expected = proposed(1)
    assert len(expected) == 16 and proposed(at_a_time) == expected


def test_one_dataset_is_built_for_all(file: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    import candletune.stages.dataset as module

    built: list[str] = []
    build: Any = vars(module)["build"]

    def counted(config: Config, run: RunFolder, reporter: Reporter) -> None:
        built.append(run.path.name)
        build(config, run, reporter)

    monkeypatch.setattr(module, "build", counted)
    found = sweep(file)
    assert len(built) == 1
    assert len({entry.rows_sha256 for entry in found.trials}) == 1
    write_text(file, file.read_text().replace("[1e-4, 5e-5]", "[1e-4]\ndataset.per_class = [20, 10]"))
    assert [entry.rows for entry in sweep(file).trials] == [40] * 6
    assert len(built) == 2  # what an earlier sweep built is taken too


def test_boosting_goes_the_whole_way(file: Path) -> None:
    text = (
        file.read_text()
        .replace('"train.lora_rank" = [8, 16, 32]\ntrain.learning_rate = [1e-4, 5e-5]', "")
        .split("[run]")
    )
    table = '"boosting.max_leaf_nodes" = [4, 8]\nboosting.max_iter = [10, 30]\n'
    small = "[evaluate]\nresamples = 200\nbaselines = false\n"
    write_text(file, f"{text[0]}{table}[run]{text[1]}{small}")
    found = sweep(file, "sweep.model=boosting")
    assert (found.model, found.count("finished"), found.count("failed")) == ("boosting", 4, 0)
    home = RunFolder(load_config(file).run.folder).sweep
    logged = (home / "max_leaf_nodes-4_max_iter-30" / "train" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in logged] == [10, 20, 30]
    verdict = judge_winner(found, RunFolder(home), SilentReporter()).verdict
    assert verdict in ("keep", "not enough evidence", "promote")
    ledger = Ledger(load_config(file).live.state.with_name("ledger.jsonl"))
    assert [entry.line.number for entry in ledger.tries().values()] == [1]
    with pytest.raises(UsageError, match="cannot be swept"):
        sweep(file)


def test_names_say_the_settings(tmp_path: Path) -> None:
    assert trial_name({"train.lora_rank": 8, "train.learning_rate": 1e-4}) == "lora_rank-8_learning_rate-0.0001"
    one, other = (trial_name({"train.learning_rate": value}) for value in (1.0000001e-4, 1.0000002e-4))
    assert one != other
    modules: dict[str, Any] = {"train.target_modules": ["q_proj", "v_proj", "k_proj", "o_proj"]}
    assert len(trial_name({**modules, "data.fear_greed": "/a/b/c:d.csv", "train.dropout": 0.25})) <= 64


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    config = load_config(None)
    ready = trial_config(config, {"data.fear_greed": "fg.csv"}, tmp_path / "t", tmp_path)
    assert ready.data.fear_greed == tmp_path / "fg.csv"
    assert trial_config(config, {"data.fear_greed": ""}, tmp_path / "t", tmp_path).data.fear_greed is None
    path = tmp_path / "again.toml"
    path.write_text(trial_toml(ready))
    assert load_config(path).model_copy(update={"sweep": ready.sweep}) == ready


def test_the_command(file: Path, trained: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["sweep", str(file)])
    said = capsys.readouterr()
    assert left.value.code == 0
    assert "of 6. The winner (*)" in said.out
    assert "winner.toml" in said.err


def test_the_base_is_written_once(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(shared_base, "run_stage", lambda stage, config, *_: made.append(config.run.folder))
    config = load_config(file, ["base.model=tiny"])
    shared = shared_base.with_shared_base(config, RunFolder(tmp_path / "home"), SilentReporter())
    assert made == [tmp_path / "home" / "base"]
    assert shared.base.gguf == tmp_path / "home" / "base" / "gguf" / "base.gguf"
    assert shared_base.with_shared_base(shared, RunFolder(tmp_path / "home"), SilentReporter()) == shared
    swept = load_config(file, ["base.model=tiny", 'sweep.settings={"base.serve_type"=["F32", "Q8_0"]}'])
    assert shared_base.with_shared_base(swept, RunFolder(tmp_path / "home"), SilentReporter()) == swept


def test_the_plans_iteration_is_a_sweep() -> None:
    config = load_config(ROOT / "examples" / "iteration.toml")
    check_space(config)
    assert (config.train.lora_rank, config.train.lora_alpha) == (16, 32)
    assert set(config.train.target_modules) == {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert 3 * config.dataset.per_class >= 5000
    made = [trial_config(config, settings, ROOT, ROOT / "examples") for settings in grid(config)]
    assert {one.train.learning_rate for one in made} == {1e-4, 5e-5}
    assert {one.timeframes for one in made} == {("1h",), ("1h", "4h")}
    files = {one.data.fear_greed.resolve() for one in made if one.data.fear_greed is not None}
    assert files == {ROOT.resolve() / "user_data" / "fear_greed.csv"}
    assert len(made) == 8
