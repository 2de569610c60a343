"""Nothing but promote changes who acts, and rollback is one command."""

import json
from pathlib import Path
from typing import Any

import pytest

from candletune.config import Config, load_config
from candletune.errors import CheckFailed, InputError, UsageError
from candletune.hashes import sha256_path
from candletune.live import promotion as state


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


def write_verdict(config: Config, **changes: Any) -> None:
    folder = config.run.folder
    (folder / "evaluation").mkdir(exist_ok=True)
    assert config.incumbent.adapter is not None
    verdict = {
        "verdict": "promote",
        "reason": "every criterion holds",
        "forced": False,
        "candidate": {"adapter_sha256": sha256_path(folder / "gguf" / "custom-trading-lora.gguf")},
        "incumbent": {"adapter_sha256": sha256_path(config.incumbent.adapter)},
    }
    (folder / "evaluation" / "verdict.json").write_text(json.dumps(verdict | changes))


def test_promote_and_rollback(config: Config) -> None:
    write_verdict(config)
    assert state.active_adapter(config).name == "old"
    promoted = state.promote(config)
    active = state.active_adapter(config)
    assert active.sha256 == promoted.sha256
    assert active.path is not None
    assert active.path.read_bytes() == b"candidate"
    # training again in the run folder changes nothing for who acts
    (config.run.folder / "gguf" / "custom-trading-lora.gguf").write_bytes(b"newer")
    assert state.active_adapter(config).path == active.path
    state.rollback(config, reason="flips")
    assert state.active_adapter(config).name == "old"
    assert [(event["what"], event["reason"]) for event in state.history(config)] == [
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
        ({"candidate": {"adapter_sha256": "f" * 64}}, "about candidate ffffffffffff"),
        ({"incumbent": {"adapter_sha256": None}}, "about incumbent (bare base)"),
    ],
)
def test_promote_wants_the_right_verdict(changes: dict[str, Any], words: str, config: Config) -> None:
    write_verdict(config, **changes)
    with pytest.raises(CheckFailed) as caught:
        state.promote(config)
    assert words in str(caught.value)
    assert not config.live.state.exists()
    state.promote(config, force="paper account")
    assert state.history(config)[0]["forced"] is True


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
        state.active_adapter(config)
    kept.unlink()
    with pytest.raises(InputError, match="is missing"):
        state.active_adapter(config)


@pytest.mark.parametrize("text", ["{}", "[]", '{"version": 1, "active": {}}', "nonsense"])
def test_a_broken_state_file_is_an_error(text: str, config: Config) -> None:
    config.live.state.parent.mkdir(parents=True)
    config.live.state.write_text(text)
    with pytest.raises(InputError, match=r"active\.json"):
        state.active_adapter(config)
