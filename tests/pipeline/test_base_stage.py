"""One base file: written once from a folder, or given; what trains, is certified and replayed is that very file."""

import gc
import json
import re
from pathlib import Path

import numpy as np
import pytest

from candletune.artifacts import AdapterRecord, BaseSummary, Certificate
from candletune.base.find import base_hash, resolve_base, served_gguf
from candletune.base.load import asked_exactly
from candletune.base.packed import PackedEmbedding, PackedLinear
from candletune.config import Config, load_config
from candletune.console import SilentReporter
from candletune.engines.llama_cpp import LlamaCppEngine
from candletune.errors import InputError, UsageError
from candletune.experiments.shared_base import with_shared_base
from candletune.gguf.header import read_header
from candletune.gguf.quantize import quantize, type_name
from candletune.gguf.shape import base_shape
from candletune.hashes import sha256_path
from candletune.journal import read_frame
from candletune.model_shape import read_shape
from candletune.preflight import examine
from candletune.runs import RunFolder
from candletune.stages import stage
from candletune.stages.needs import base_needs, known_base
from candletune.stages.pipeline import prepare
from candletune.stages.runner import StageOutcome, check_inputs, is_current, run_stage
from gguf import GGUFReader, dequantize

pytestmark = pytest.mark.llamacpp


def settings(base: Path | None, folder: Path, *more: str) -> Config:
    """A few steps on a small simulated market, on one thread of the CPU."""
    return load_config(
        None,
        [
            *([] if base is None else [f"base.model={base}"]),
            f"run.folder={folder / 'run'}",
            f"live.state={folder / 'live' / 'active.json'}",
            "simulate.enabled=true",
            "simulate.years=0.6",
            "dataset.test_start=2022-06-01",
            "dataset.per_class=16",
            "dataset.natural_eval=12",
            "train.device=cpu",
            "train.optimizer=adamw_torch",
            "train.learning_rate=2e-3",
            "train.max_steps=2",
            "train.policy_steps=1",
            "train.effective_batch=4",
            "verify.prompts=10",
            "verify.min_parsed=0",
            "verify.min_plain_agreement=0",
            "replay.stride=200",
            "replay.reasons=1",
            "engine.max_tokens=8",
            "engine.threads=1",
            *more,
        ],
    )


def through(config: Config, *names: str) -> tuple[Config, RunFolder, list[StageOutcome]]:
    run, reporter = RunFolder(config.run.folder), SilentReporter()
    with run.lock():
        config = prepare(config, run, reporter)
        return config, run, [run_stage(stage(name), config, run, reporter) for name in names]


def written(base: Path, folder: Path, *more: str) -> tuple[Config, RunFolder, BaseSummary]:
    config, run, outcomes = through(settings(base, folder, *more), "base")
    return config, run, outcomes[0].summary_as(BaseSummary)


@pytest.mark.slow
def test_from_a_folder_to_the_replay_over_one_quantized_file(random_base: Path, tmp_path: Path) -> None:
    names = ("base", "dataset", "train", "export", "verify", "replay")
    config, run = settings(random_base, tmp_path), RunFolder(tmp_path / "run")
    for name in names:
        config, run, _ = through(config, name)
        held = [thing for thing in gc.get_objects() if type(thing) in (PackedLinear, PackedEmbedding, LlamaCppEngine)]
        assert held == [], f"{name} keeps a model in memory"
    served = sha256_path(run.base_gguf)
    assert type_name(read_header(run.base_gguf).fields["general.file_type"]) == "Q4_K_M"
    record = AdapterRecord.read(run.adapter / AdapterRecord.FILE)
    assert (record.storage, record.base_gguf_sha256, record.base_sha256) == ("gguf", served, base_hash(random_base))
    manifest = read_header(run.adapter_gguf).manifest
    assert (manifest.storage, manifest.base_gguf_sha256) == ("gguf", served)
    certificate = Certificate.read(run.certificate)
    values = {criterion.name: criterion.value for criterion in certificate.criteria}
    assert certificate.fidelity is not None
    assert certificate.fidelity.storage == "gguf"
    assert values["prompt ids as in training"] == 1.0
    assert set(read_frame(run.journal)["base_sha256"]) == {served}, "what trained is what was replayed"
    assert not list(run.gguf.glob(".*")), "nothing half-written is left"
    assert all(is_current(stage(name), config, run) for name in names)


def test_it_is_written_once_and_older_ones_stay(random_base: Path, tmp_path: Path) -> None:
    config, run, summary = written(random_base, tmp_path)
    first = run.base_gguf.read_bytes()
    assert (summary.type, summary.written, summary.bytes) == ("Q4_K_M", True, len(first))
    assert summary.file == "gguf/base.gguf"
    _, _, (again,) = through(config, "base")
    assert again.skipped
    manifest = read_header(run.base_gguf).manifest
    assert manifest.base_sha256 == base_hash(random_base)
    assert isinstance(manifest.chat, dict) and manifest.chat["after"] == "[/INST]"
    _, _, other = written(random_base, tmp_path, "base.serve_type=Q8_0")
    assert other.type == "Q8_0"
    kept = [path for path in run.gguf.glob("base-*.gguf")]
    assert [path.read_bytes() for path in kept] == [first]


def test_a_given_file_is_the_base_and_nothing_is_written(random_base: Path, tmp_path: Path) -> None:
    """One that another run wrote too: adapters of both name the same model."""
    _, first, _ = written(random_base, tmp_path / "a")
    config, run, (outcome,) = through(settings(None, tmp_path / "b", f"base.gguf={first.base_gguf}"), "base")
    summary = outcome.summary_as(BaseSummary)
    assert (summary.written, summary.file, summary.type) == (False, str(first.base_gguf), "Q4_K_M")
    assert not run.gguf.exists()
    found = resolve_base(config, SilentReporter())
    assert (found.path, found.sha256) == (first.base_gguf, base_hash(random_base))
    assert found.gguf_sha256 == summary.sha256


def numbers(path: Path) -> dict[str, np.ndarray]:
    """Every tensor, expanded to float32."""
    return {tensor.name: dequantize(tensor.data, tensor.tensor_type) for tensor in GGUFReader(path).tensors}


def test_a_given_file_is_expanded_where_another_type_is_asked_for(random_base: Path, tmp_path: Path) -> None:
    _, first, _ = written(random_base, tmp_path / "a")
    more = (f"base.gguf={first.base_gguf}", "base.serve_type=F32")
    config, run, (outcome,) = through(settings(None, tmp_path / "b", *more), "base")
    summary = outcome.summary_as(BaseSummary)
    assert (summary.type, summary.written, summary.file) == ("F32", True, "gguf/base.gguf")
    before, after = numbers(first.base_gguf), numbers(run.base_gguf)
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before), "the same numbers"
    found = resolve_base(config, SilentReporter())
    assert (found.path, found.sha256) == (run.base_gguf, base_hash(random_base))
    assert is_current(stage("base"), config, run) and not list(run.gguf.glob(".*"))
    first.base_gguf.write_bytes(first.base_gguf.read_bytes() + b"\0")
    assert not is_current(stage("base"), config, run), "the given file is what it was written from"


def test_blocks_are_not_rounded_a_second_time(random_base: Path, tmp_path: Path) -> None:
    _, first, _ = written(random_base, tmp_path / "a")
    config = settings(None, tmp_path / "b", f"base.gguf={first.base_gguf}", "base.serve_type=Q8_0")
    wanted = (
        r"base\.gguf: is Q4_K_M, from which base\.serve_type=Q8_0 would round it a second time; leave .* F16 or F32"
    )
    with pytest.raises(UsageError, match=wanted):
        through(config, "base")
    problems = [finding for finding in examine(config, ["base"]) if finding.level == "problem"]
    assert [problem.exit_code for problem in problems] == [2] and re.search(wanted, problems[0].text)
    assert not list((tmp_path / "b" / "run").rglob("*.gguf*"))


def test_plain_numbers_are_rounded_as_llama_cpp_does(random_base: Path, tmp_path: Path) -> None:
    _, first, _ = written(random_base, tmp_path / "a", "base.serve_type=F16")
    _, run, summary = written(random_base, tmp_path / "b", f"base.gguf={first.base_gguf}", "base.serve_type=Q8_0")
    assert (summary.type, summary.written) == ("Q8_0", True)
    quantize(first.base_gguf, tmp_path / "own.gguf", "Q8_0")
    assert run.base_gguf.read_bytes() == (tmp_path / "own.gguf").read_bytes()


def test_what_will_be_written_is_counted_before(random_base: Path, tmp_path: Path) -> None:
    _, first, _ = written(random_base, tmp_path / "a")
    given = f"base.gguf={first.base_gguf}"
    config = settings(None, tmp_path / "b", given, "base.serve_type=F16")
    weights = read_shape(random_base).parameters
    assert base_needs(config).disk_gib * 2**30 >= 2 * weights
    assert known_base(config).shape == base_shape(first.base_gguf)
    packed = known_base(config).packed_gib
    assert packed is not None and packed * 2**30 == pytest.approx(2 * weights)
    assert base_needs(settings(None, tmp_path / "b", given)).disk_gib == 0


def test_trials_share_a_base_that_was_expanded_once(random_base: Path, tmp_path: Path) -> None:
    _, first, _ = written(random_base, tmp_path / "a")
    config = settings(None, tmp_path / "b", f"base.gguf={first.base_gguf}", "base.serve_type=F16", "sweep.model=llm")
    shared = with_shared_base(config, RunFolder(tmp_path / "sweep"), SilentReporter())
    assert served_gguf(shared) == shared.base.gguf != first.base_gguf
    assert type_name(read_header(shared.base.gguf).fields["general.file_type"]) == "F16"  # type: ignore[arg-type]


def test_small_models_are_asked_in_float32() -> None:
    config = load_config(None, ["base.model=tiny"]).train
    assert config.bf16 and not asked_exactly(config, 135e6).bf16
    assert asked_exactly(config, 8e9) == config


def test_training_without_the_file_says_which_command_writes_it(random_base: Path, tmp_path: Path) -> None:
    config, run, _ = through(settings(random_base, tmp_path), "dataset")
    with pytest.raises(InputError, match=r"base\.gguf: missing .*run `candletune base` first"):
        check_inputs(stage("train"), config, run)
    with pytest.raises(InputError, match=r"no such file; run `candletune base` first"):
        resolve_base(config, SilentReporter())


def test_an_adapter_is_no_base(random_base: Path, tmp_path: Path) -> None:
    import gguf

    path = tmp_path / "lora.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 16.0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(InputError, match="is a LoRA adapter, not a base model"):
        through(settings(None, tmp_path, f"base.gguf={path}"), "base")


def test_a_base_that_cannot_be_written_is_refused_before_anything_is(random_base: Path, tmp_path: Path) -> None:
    other = tmp_path / "gemma"
    other.mkdir()
    for file in random_base.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    changed = json.loads((other / "config.json").read_text())
    changed |= {"model_type": "gemma", "architectures": ["GemmaForCausalLM"]}
    (other / "config.json").write_text(json.dumps(changed))
    with pytest.raises(InputError, match=r"a gemma base cannot be written; set base\.gguf to its GGUF"):
        through(settings(other, tmp_path), "base")
    assert not list((tmp_path / "run").rglob("*.gguf*"))


@pytest.mark.parametrize("given", ["F16", "F32"])
def test_the_old_setting_names_the_new_one(given: str, random_base: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"export\.base_type is base\.serve_type now"):
        settings(random_base, tmp_path, f"export.base_type={given}")


def test_the_tiny_base_is_served_as_it_is(tmp_path: Path) -> None:
    assert load_config(None, ["base.model=tiny"]).base.written_type == "F32"
    assert load_config(None, ["base.model=tiny", "base.serve_type=Q8_0"]).base.written_type == "Q8_0"
    assert load_config(None, []).base.written_type == "Q4_K_M"
    with pytest.raises(UsageError, match=r"base\.serve_type: .*Q4_K_M"):
        load_config(None, ["base.serve_type=IQ1_S"])
