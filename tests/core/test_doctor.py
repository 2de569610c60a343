"""What `doctor` says of a base on the hub, whatever the line does."""

from typing import Any

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HFValidationError

from candletune.config import load_config
from candletune.preflight import examine


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
