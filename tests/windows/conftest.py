"""Windows' rules for a test; only where /proc tells which files are open."""

import sys
from collections.abc import Iterator

import pytest

from windows_rules import Rules


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rules]:
    """The rules, imposed when `impose` is called; taken back before pytest tidies up."""
    if not sys.platform.startswith("linux"):
        pytest.skip("the imposed rules read /proc; on Windows itself the tests below run against the real ones")
    with monkeypatch.context() as patch:
        rules = Rules(patch)
        yield rules
