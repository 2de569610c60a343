"""Nothing but promote changes who acts, and rollback is one command."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from candletune import files
from candletune.artifacts import ExportSummary, JudgedModel
from candletune.config import Config, load_config
from candletune.errors import CheckFailed, InputError, UsageError
from candletune.evaluation.tries import attempt_of, ledger_of, spend
from candletune.gguf.catalogue import CatalogueEntry, record
from candletune.hashes import sha256_path
from candletune.journal import Role
from candletune.live import promotion as state
from candletune.live.models import active_model, named_model
from candletune.runs import RunFolder
from stage_entries import record_stage

pytestmark = pytest.mark.usefixtures("any_file_loads")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    gguf = tmp_path / "run" / "gguf"
    gguf.mkdir(parents=True)
    (gguf / "custom-trading-lora.gguf").write_bytes(b"candidate")
    (tmp_path / "old.gguf").write_bytes(b"incumbent")
    return load_config(
        None,
        [
            f"run.folder={tmp_path / 'run'}",
            f"live.state={tmp_path / 'live' / 'active.json'}",
            f"incumbent.adapter={tmp_path / 'old.gguf'}",
        ],
    )


def spent(config: Config, **settings: Any) -> dict[str, Any]:
    """A try on record in the configured ledger, under the configured rule."""
    config = config.model_copy(update={"evaluate": config.evaluate.model_copy(update=settings)})
    times = [datetime(2025, 1, 1, hour, tzinfo=UTC) for hour in range(3)]
    rows = pl.DataFrame({"timestamp": times, "ticker": "BTC", "template_sha256": "t", "base_sha256": "c"})
    rows = rows.with_columns(forward_return=pl.lit(0.01))
    models = {role: JudgedModel(name=role.value, adapter_sha256=None) for role in Role}
    found = spend(attempt_of(rows, models, config, source="replay", run=config.run.folder), config)
    assert found is not None
    return found.model_dump(mode="json")


def write_verdict(config: Config, **changes: Any) -> None:
    folder = config.run.folder
    (folder / "evaluation").mkdir(exist_ok=True)
    assert config.incumbent.adapter is not None
    verdict = {
        "verdict": "promote",
        "reason": "every criterion holds",
        "rule": "full",
        "criteria": [],
        "rows": 100,
        "forced": False,
        "candidate": {"name": "new", "adapter_sha256": sha256_path(folder / "gguf" / "custom-trading-lora.gguf")},
        "incumbent": {"name": "old", "adapter_sha256": sha256_path(config.incumbent.adapter)},
        "spent": spent(config),
    }
    (folder / "evaluation" / "verdict.json").write_text(json.dumps(verdict | changes))


def test_promote_and_rollback(config: Config) -> None:
    write_verdict(config)
    assert active_model(config).name == "old"
    promoted = state.promote(config)
    active = active_model(config)
    assert active.sha256 == promoted.sha256
    assert active.path is not None
    assert active.path.read_bytes() == b"candidate"
    # training again in the run folder changes nothing for who acts
    (config.run.folder / "gguf" / "custom-trading-lora.gguf").write_bytes(b"newer")
    assert active_model(config).path == active.path
    state.rollback(config, reason="flips")
    assert active_model(config).name == "old"
    assert [(event.what, event.reason) for event in state.history(config)] == [
        ("promote", "every criterion holds"),
        ("rollback", "flips"),
    ]
    with pytest.raises(UsageError, match="nothing to roll back to"):
        state.rollback(config)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"verdict": "keep", "reason": "flips"}, "the verdict is 'keep'"),
        ({"verdict": "not enough evidence"}, "not enough evidence"),
        ({"forced": True}, "rows the training saw"),
        ({"candidate": {"name": "x", "adapter_sha256": "f" * 64}}, "about candidate ffffffffffff"),
        ({"incumbent": {"name": "bare base", "adapter_sha256": None}}, "about incumbent (bare base)"),
    ],
)
def test_promote_wants_the_right_verdict(changes: dict[str, Any], words: str, config: Config) -> None:
    write_verdict(config, **changes)
    with pytest.raises(CheckFailed) as caught:
        state.promote(config)
    assert words in str(caught.value)
    assert not config.live.state.exists()
    state.promote(config, force="paper account")
    assert state.history(config)[0].forced is True


def test_the_plans_criteria_alone_promote_nothing(config: Config) -> None:
    write_verdict(config, rule="plan")
    with pytest.raises(CheckFailed, match=r"plan's three criteria alone .*evaluate\.criteria=full"):
        state.promote(config)
    assert not config.live.state.exists()


def test_a_verdict_off_the_record_promotes_nothing(config: Config) -> None:
    """From before there was a ledger, or asked with another one, where the other tries do not count."""
    write_verdict(config, spent=None)
    with pytest.raises(CheckFailed, match=r"not on record in .*ledger\.jsonl"):
        state.promote(config)
    write_verdict(config)
    ledger_of(config).path.rename(config.run.folder / "elsewhere.jsonl")
    with pytest.raises(CheckFailed, match="not on record"):
        state.promote(config)
    write_verdict(config)
    state.promote(config)


@pytest.mark.parametrize(("key", "value"), [("min_gain", -1.0), ("confidence", 0.5), ("min_effective", 1)])
def test_a_verdict_under_another_rule_promotes_nothing(key: str, value: float, config: Config) -> None:
    """`candletune evaluate --set evaluate.min_gain=-1` is a question; the configuration's answer promotes."""
    write_verdict(config, spent=spent(config, **{key: value}))
    with pytest.raises(CheckFailed, match=rf"evaluate\.{key} = {value}, the configuration says"):
        state.promote(config)
    loose = config.model_copy(update={"evaluate": config.evaluate.model_copy(update={key: value})})
    state.promote(loose)


def test_a_baseline_that_must_be_beaten_must_have_been_asked(config: Config) -> None:
    demanding = config.model_copy(
        update={"evaluate": config.evaluate.model_copy(update={"must_beat": ("gradient boosting",)})}
    )
    write_verdict(config)
    with pytest.raises(CheckFailed, match=r"did not ask whether the candidate beats gradient boosting"):
        state.promote(demanding)
    criterion = {"name": "beats gradient boosting", "description": "", "value": 0.1, "interval": None, "limit": 0.0}
    write_verdict(config, criteria=[criterion | {"passed": True, "kind": "evidence", "unit": "points"}])
    state.promote(demanding)


def file_verdict(config: Config, name: str, decided: str, **changes: Any) -> None:
    """A verdict in another file of the run's evaluation folder."""
    folder = config.run.folder / "evaluation"
    latest = folder / "verdict.json"
    kept = latest.read_text() if latest.exists() else None
    write_verdict(config, decided=decided, **changes)
    target = folder / name
    target.parent.mkdir(exist_ok=True)
    if target != latest:
        latest.replace(target)
        if kept is not None:
            latest.write_text(kept)


MONDAY, TUESDAY, WEDNESDAY = (f"2026-11-{day:02}T12:00:00+00:00" for day in (2, 3, 4))


def test_a_later_look_without_evidence_takes_nothing_back(config: Config) -> None:
    file_verdict(config, "verdicts/monday.json", MONDAY)
    file_verdict(config, "verdicts/tuesday.json", TUESDAY, verdict="not enough evidence")
    file_verdict(config, "verdict.json", TUESDAY, verdict="not enough evidence")
    state.promote(config)
    assert state.history(config)[0].forced is False


def test_a_later_keep_does(config: Config) -> None:
    file_verdict(config, "verdicts/monday.json", MONDAY)
    file_verdict(config, "shadow_verdict.json", WEDNESDAY, verdict="keep", reason="worse in life", source="shadow")
    with pytest.raises(CheckFailed, match=r"shadow_verdict\.json: the verdict is 'keep' \(worse in life\)"):
        state.promote(config)
    file_verdict(config, "verdicts/monday.json", MONDAY, verdict="keep")
    file_verdict(config, "shadow_verdict.json", WEDNESDAY, source="shadow")
    state.promote(config)


def test_other_peoples_verdicts_in_the_history_do_not_count(config: Config) -> None:
    file_verdict(config, "verdicts/monday.json", MONDAY, candidate={"name": "x", "adapter_sha256": "f" * 64})
    file_verdict(config, "verdict.json", TUESDAY, verdict="not enough evidence", reason="12 of 50")
    with pytest.raises(CheckFailed, match=r"evaluation/verdict\.json: .*12 of 50"):
        state.promote(config)


def test_promote_without_a_verdict_or_a_reason(config: Config) -> None:
    with pytest.raises(InputError, match="no verdict"):
        state.promote(config)
    with pytest.raises(UsageError, match="expected a reason"):
        state.promote(config, force=" ")


def test_a_changed_or_missing_active_adapter_is_an_error(config: Config) -> None:
    write_verdict(config)
    kept = state.promote(config).path
    assert kept is not None
    kept.write_bytes(b"tampered")
    with pytest.raises(InputError, match="hash differs"):
        active_model(config)
    kept.unlink()
    with pytest.raises(InputError, match="is missing"):
        active_model(config)


def test_a_lost_state_file_is_an_error_and_no_silent_return_to_the_incumbent(config: Config) -> None:
    write_verdict(config)
    state.promote(config)
    before = config.live.state.read_bytes()
    config.live.state.unlink()
    for call in (active_model, state.promote, state.rollback):
        with pytest.raises(InputError, match=r"active\.json: missing, but .*adapters holds models"):
            call(config)
    config.live.state.with_name("other.json").write_bytes(before)  # the copies belong to another trader's state file
    assert active_model(config).name == "old"


def test_the_copy_that_will_act_is_hashed_and_loaded_before_anything_changes(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before, the candidate itself was: what lay there when it was copied could be another file, or none that loads."""
    write_verdict(config)
    candidate = config.run.folder / "gguf" / "custom-trading-lora.gguf"
    seen: list[bytes] = []

    def looked_at(*given: Any) -> None:
        assert not config.live.state.exists()
        seen.append(given[-1].read_bytes())
        assert given[-1] != candidate
        candidate.write_bytes(b"exported over meanwhile")

    monkeypatch.setattr(state, "check_loads", looked_at)
    kept = state.promote(config)
    assert seen == [b"candidate"]
    assert kept.path is not None
    assert kept.path.read_bytes() == b"candidate"
    assert active_model(config).sha256 == kept.sha256


@pytest.mark.parametrize("fault", ["replaced while copied", "does not load"])
def test_a_copy_that_will_not_do_leaves_nothing_behind(
    fault: str, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_verdict(config)
    copied = files.copy

    def replaced(source: Path, target: Path, **more: Any) -> None:
        source.write_bytes(b"another export")
        copied(source, target, **more)

    def refused(*_: Any) -> None:
        raise InputError("custom-trading-lora.gguf: no GGUF")

    if fault == "does not load":
        monkeypatch.setattr(state, "check_loads", refused)
    else:
        monkeypatch.setattr(state, "copy", replaced)
    with pytest.raises(InputError, match=r"custom-trading-lora\.gguf: (was changed while it was copied|no GGUF)"):
        state.promote(config)
    assert not config.live.state.exists()
    assert not [path for path in config.live.state.parent.rglob("*") if ".gguf" in path.name]
    assert active_model(config).name == "old"


def test_a_refused_promotion_leaves_a_usable_folder(config: Config) -> None:
    """Killed between its copies and its last write, the first promotion leaves the incumbent acting."""
    write_verdict(config)
    patch = pytest.MonkeyPatch()
    patch.setattr(state, "_keep", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        state.promote(config)
    patch.undo()
    assert active_model(config).name == "old"
    assert state.promote(config).name != "old"


def test_rollback_survives_a_changed_incumbent_file(config: Config) -> None:
    write_verdict(config)
    state.promote(config)
    assert config.incumbent.adapter is not None
    config.incumbent.adapter.write_bytes(b"exported over")
    back = state.rollback(config)
    assert (back.name, active_model(config).sha256) == ("old", back.sha256)
    assert back.path is not None
    assert back.path.read_bytes() == b"incumbent"


def exported(config: Config, kind: str, digest: str | None = None) -> None:
    """The run's manifest says what the export stage wrote last."""
    name = "custom-trading-merged.gguf" if kind == "merged" else "custom-trading-lora.gguf"
    path = config.run.folder / "gguf" / name
    digest = digest or sha256_path(path)
    entry = CatalogueEntry(file=name, sha256=digest, kind=kind, exported="2026-11-20T23:59:00+00:00")
    record(path.parent, entry)
    record_stage(RunFolder(config.run.folder), ExportSummary(kind=kind, file=f"gguf/{name}", sha256=digest))


def test_a_merged_candidate_is_promoted_and_rolled_back(config: Config) -> None:
    """The older LoRA in the same folder is never taken for it, with or without --force."""
    merged = config.run.folder / "gguf" / "custom-trading-merged.gguf"
    merged.write_bytes(b"whole model")
    exported(config, "merged")
    write_verdict(config)  # about the LoRA
    with pytest.raises(CheckFailed, match="about candidate"):
        state.promote(config)
    write_verdict(config, candidate={"name": "merged", "adapter_sha256": sha256_path(merged)})
    state.promote(config)
    merged.write_bytes(b"newer")
    active = active_model(config)
    assert active.kind == "merged"
    assert active.path is not None
    assert active.path.parent == config.live.state.parent / "adapters"
    assert active.path.read_bytes() == b"whole model"
    assert active.name == f"custom-trading-merged-20261120-{(active.sha256 or '')[:8]}"
    assert state.rollback(config).kind == "adapter"
    exported(config, "merged")
    forced = state.promote(config, force="paper account")
    assert (forced.kind, forced.path and forced.path.read_bytes()) == ("merged", b"newer")
    assert [change.after.adapter_sha256 for change in state.history(config)][-1] == forced.sha256


def test_a_file_that_is_not_the_exported_one_is_not_promoted(config: Config) -> None:
    exported(config, "adapter", "e" * 64)
    with pytest.raises(InputError, match="hash differs"):
        state.promote(config, force="paper account")


def test_two_candidates_have_two_names(config: Config) -> None:
    names = set()
    for content in (b"first", b"second"):
        (config.run.folder / "gguf" / "custom-trading-lora.gguf").write_bytes(content)
        exported(config, "adapter")
        names.add(state.promote(config, force="paper account").name)
    assert names == {
        f"custom-trading-lora-20261120-{hashlib.sha256(content).hexdigest()[:8]}" for content in (b"first", b"second")
    }
    for name in names:
        found = named_model(config, name)
        assert found is not None
        assert found.name == name
    assert named_model(config, "custom-trading-lora-20261120-00000000") is None


def test_a_state_file_of_version_1(config: Config) -> None:
    """Adapters and the bare base were all it knew."""
    kept = config.live.state.parent / "adapters" / "new-0123.gguf"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"promoted")
    digest = hashlib.sha256(b"promoted").hexdigest()
    base = {"name": "bare base", "path": None, "adapter_sha256": None, "since": "2026-01-01T00:00:00+00:00"}
    acting = base | {"name": "new", "path": "adapters/new-0123.gguf", "adapter_sha256": digest}
    event: dict[str, Any] = {"at": base["since"], "what": "promote", "reason": "x", "forced": True}
    event |= {"from": {"name": "bare base", "adapter_sha256": None}, "to": {"name": "new", "adapter_sha256": digest}}
    content = {"version": 1, "active": acting, "previous": [base], "history": [event]}
    config.live.state.write_text(json.dumps(content))
    assert (active_model(config).kind, active_model(config).sha256) == ("adapter", digest)
    assert state.rollback(config, reason="back").kind == "base"
    assert [(change.what, change.after.name) for change in state.history(config)] == [
        ("promote", "new"),
        ("rollback", "bare base"),
    ]
    assert json.loads(config.live.state.read_text())["version"] == 2


@pytest.mark.parametrize(
    "text",
    ["{}", "[]", '{"version": 1, "active": {}}', "nonsense", "[" * 60_000, '{"version": 1' + "0" * 5_000 + "}", ""],
    ids=lambda text: text[:20],
)
def test_a_broken_state_file_is_an_error(text: str, config: Config) -> None:
    config.live.state.parent.mkdir(parents=True)
    config.live.state.write_text(text)
    with pytest.raises(InputError, match=r"active\.json"):
        active_model(config)
