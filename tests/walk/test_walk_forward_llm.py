"""A walk with a language model: one base for all periods, an adapter for each, and the one before as the incumbent."""

from pathlib import Path

import pytest

from candletune.artifacts import AdapterRecord, Verdict, Walk
from candletune.config import load_config
from candletune.console import SilentReporter
from candletune.experiments.walk.run import walk
from candletune.hashes import sha256_path
from candletune.runs import RunFolder
from candletune.stages.pipeline import prepare
from random_weights import RANDOM_WEIGHTS

pytestmark = [pytest.mark.slow, pytest.mark.llamacpp]

SETTINGS = """
[run]
folder = "run"
[simulate]
enabled = true
years = 0.6
[live]
state = "live/active.json"
[dataset]
per_class = 40
natural_eval = 60
[train]
max_steps = 3
policy_steps = 0
effective_batch = 4
eval_steps = 0
learning_rate = 5e-3
optimizer = "adamw_8bit"
[evaluate]
resamples = 100
[walk]
incumbent = "previous"
warm_start = true
every = "3w"
start = 2022-06-01
end = 2022-07-12
"""


def test_the_adapter_of_the_period_before_is_the_incumbent_and_where_training_goes_on(
    random_base: Path, tmp_path: Path
) -> None:
    file = tmp_path / "candletune.toml"
    weights = RANDOM_WEIGHTS.replace("[engine]", "[engine]\nthreads = 1")
    file.write_text(f'{SETTINGS}[base]\nmodel = "{random_base}"\n{weights}')
    config, reporter = load_config(file, ["verify.rows=20", "replay.reasons=1"]), SilentReporter()
    run = RunFolder(config.run.folder)
    with run.lock():
        walk(prepare(config, run, reporter), run, reporter)
    own = RunFolder(run.walk)
    first, second = Walk.read(own.walk_periods).periods
    runs = [RunFolder(own.path / period.folder) for period in (first, second)]
    assert run.base_gguf.is_file() and not any(each.base_gguf.exists() for each in runs)
    trained = [AdapterRecord.read(each.adapter / AdapterRecord.FILE) for each in runs]
    assert {record.base_gguf_sha256 for record in trained} == {sha256_path(run.base_gguf)}
    assert [record.train["init_adapter"] for record in trained] == [None, sha256_path(runs[0].adapter)]
    assert trained[0].train_end < first.start < trained[1].train_end < second.start
    assert first.incumbent is not None and first.candidate is not None and second.incumbent is not None
    assert first.incumbent.adapter_sha256 is None, "the configured one: the bare base"
    assert second.incumbent.adapter_sha256 == first.candidate.adapter_sha256 == sha256_path(runs[0].adapter_gguf)
    verdict = Verdict.read(own.verdict)
    assert verdict.rows == first.rows + second.rows and verdict.spent is not None
    assert verdict.spent.number == 1 and verdict.spent.registered is not None
