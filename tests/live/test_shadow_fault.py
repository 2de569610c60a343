"""A fault of the candidate is told to people, once a kind."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from fakes import FakeEngine

from candletune.config import load_config
from candletune.console import SilentReporter
from candletune.decide import Model
from candletune.errors import InputError
from candletune.journal import Journal
from candletune.live.shadow import Due, ShadowLoop
from candletune.live.signal import Trader


def test_each_kind_of_fault_is_told_once(tmp_path: Path) -> None:

    def missing() -> Model:
        raise InputError("missing.gguf: no such adapter")

    trader = Trader(load_config(None, [f"live.state={tmp_path / 'active.json'}"]), engine=FakeEngine())
    told: list[str] = []
    loop = ShadowLoop(
        trader,
        Journal(tmp_path / "ab.jsonl"),
        candidate=missing,
        base_sha256="b" * 64,
        emit=lambda _: None,
        reporter=SilentReporter(),
    )
    loop.fault = told.append
    start = datetime(2025, 1, 1, tzinfo=UTC)
    context = {"ticker": "BTC", "price_usd": 100.0}
    loop.cycle([Due(start + timedelta(hours=hour), "BTC", 100.0, context) for hour in range(3)])
    assert len(told) == 1
    assert "missing.gguf: no such adapter" in told[0]
