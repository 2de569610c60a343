"""What `doctor` says: of a base on the hub whatever the line does, of llama.cpp, of versions, without a file."""

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HFValidationError

from candletune.cli import main
from candletune.config import load_config
from candletune.preflight import examine, machine


class NoLine(Exception):
    """As the HTTP library's: of no class that the hub's client promises."""


@pytest.mark.parametrize(
    ("raised", "level", "words"),
    [
        (None, "ok", "accessible"),
        (NoLine("no route"), "problem", "the hub cannot be asked now (NoLine)"),
        (OSError("no route"), "problem", "the hub cannot be asked now (OSError)"),
        (HFValidationError("bad"), "problem", "neither a folder that is there nor a hub name"),
    ],
)
def test_a_base_on_the_hub(raised: Exception | None, level: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*_: Any, **__: Any) -> None:
        if raised is not None:
            raise raised

    monkeypatch.setattr(HfApi, "auth_check", ask)
    monkeypatch.setattr(HfApi, "model_info", ask)
    config = load_config(None, ["simulate.enabled=true", "base.model='somebody/a-model'"])
    base = next(finding for finding in examine(config) if finding.subject == "base")
    assert base.level == level
    assert words in base.text


def test_llama_cpp_without_cuda_beside_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(None, ["base.model=tiny"])
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("llama_cpp.llama_supports_gpu_offload", lambda: False)
    finding = next(iter(machine.llama_cpp(config)))
    assert finding.level == "warning"
    assert "runs on the CPU alone" in finding.text
    assert "CMAKE_ARGS='-DGGML_CUDA=on -DGGML_CUDA_FORCE_CUBLAS=on'" in finding.text
    monkeypatch.setattr("llama_cpp.llama_supports_gpu_offload", lambda: True)
    assert "built for the GPU" in next(iter(machine.llama_cpp(config))).text


def test_wanted_versions_are_those_the_package_declares(monkeypatch: pytest.MonkeyPatch) -> None:
    declared = ["torch>=99", "click>=8", "no-such-package>=3", "uvicorn>=99; extra == 'serve'"]
    monkeypatch.setattr("candletune.preflight.machine.requires", lambda _: declared)
    found = {finding.subject: finding for finding in machine.versions(load_config(None))}
    assert found["torch"].level == "problem"
    assert ">=99 is needed; pip install 'torch>=99'" in found["torch"].text
    assert "not installed; pip install 'no-such-package>=3'" in found["no-such-package"].text
    assert "uvicorn" not in found
    assert found["packages"].text.startswith("1 fit")


def test_without_a_configuration_doctor_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(["doctor"])
    assert caught.value.code == 2
    assert "candletune.toml: no such file" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main(["doctor", "--set", "data.folder=none", "--set", "base.model=tiny"])
    assert caught.value.code == 4
    assert "none: no such folder" in capsys.readouterr().out
