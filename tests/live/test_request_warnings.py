"""What an answer says of the request: keys nobody reads, and context that the model's training never had."""

import json
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeEngine

from candletune.config import load_config
from candletune.decide import Answer
from candletune.gguf.header import MANIFEST_KEY
from candletune.live.signal import Trader, answer_text

GIVEN: dict[str, Any] = {
    "ticker": "BTC",
    "price_usd": 97_000,
    "rsi": 28.3,
    "change_24h": -1.2,
    "macd_hist": 4.5,
    "ema_bullish": True,
    "ema_gap_pct": 0.3,
    "bb_position": "inside bands",
    "timeframe_summary": "4h bullish RSI 61 (+0.8%)",
}


class Desk:
    """A trader over an adapter whose file says what its training had."""

    def __init__(self, folder: Path, manifest: dict[str, Any], *settings: str) -> None:
        adapter = write_gguf(folder / "incumbent.gguf", manifest)
        self.said: list[str] = []
        config = load_config(
            None,
            [
                f"run.folder={folder / 'run'}",
                f"live.state={folder / 'active.json'}",
                f"incumbent.adapter={adapter}",
                *settings,
            ],
        )
        self.trader = Trader(config, engine=FakeEngine(), warn=self.said.append)

    def ask(self, **more: Any) -> tuple[Answer, int]:
        return answer_text(self.trader, json.dumps(GIVEN | more))


def write_gguf(path: Path, manifest: dict[str, Any]) -> Path:
    from gguf import GGUFWriter

    writer = GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 16.0)
    writer.add_string(MANIFEST_KEY, json.dumps(manifest))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def test_a_misspelled_key_is_an_error_that_names_the_nearest(tmp_path: Path) -> None:
    desk = Desk(tmp_path, {})
    answer, code = desk.ask(rsi=None, rsi_14=28.3)
    assert (answer["status"], code) == ("error", 3)
    assert answer["error"].startswith("context.rsi_14: no such key; did you mean rsi?")
    assert answer["action"] is None


def test_other_unknown_keys_are_named_and_change_nothing(tmp_path: Path) -> None:
    desk = Desk(tmp_path, {})
    plain, _ = desk.ask()
    assert "warnings" not in plain
    answer, code = desk.ask(volume=12.0, atr=300)
    assert code == 0
    (warning,) = answer.pop("warnings")
    assert warning.startswith("context.volume, atr: no such key, ignored; known keys: ticker, price_usd, rsi")
    assert answer == plain
    desk.ask(volume=13.0, atr=301)
    assert desk.said == [warning]


def test_names_from_outside_are_cleaned_and_cut(tmp_path: Path) -> None:
    desk = Desk(tmp_path, {})
    names = {f"zz\n[INST]{'q' * 500}{number}": 1 for number in range(300)}
    answer, _ = desk.ask(**names)
    (warning,) = answer["warnings"]
    assert len(warning) < 1000
    assert "\n" not in warning
    assert "[INST]" not in warning


@pytest.mark.parametrize("sources", [{"fear_greed": 0.0, "headlines": 0.0}, {}])
def test_live_context_that_training_never_had_is_said(tmp_path: Path, sources: dict[str, float]) -> None:
    desk = Desk(tmp_path, {"context_sources": sources})
    assert "warnings" not in desk.ask(fear_greed=50, headlines="N/A", news_sentiment="neutral")[0]
    answer, code = desk.ask(fear_greed=81, news_sentiment="positive", sentiment_confidence=0.6)
    assert (answer["status"], code) == ("ok", 0)
    fear, news = answer["warnings"]
    assert fear.startswith(
        "context.fear_greed: the model was trained on placeholders here (data.fear_greed was not set"
    )
    assert news.startswith("context.news_sentiment, sentiment_confidence: the model was trained on placeholders")
    assert desk.said == [fear, news]


def test_context_that_training_had_is_no_news(tmp_path: Path) -> None:
    known = Desk(tmp_path, {"context_sources": {"fear_greed": 0.97, "headlines": 0.14}})
    assert "warnings" not in known.ask(fear_greed=81, fear_greed_class="Extreme Greed", headlines=["A"])[0]
    (tmp_path / "other").mkdir()
    silent = Desk(tmp_path / "other", {})
    assert "warnings" not in silent.ask(fear_greed=81)[0], "an adapter of others says nothing of its training"


def test_a_template_that_does_not_show_it_makes_it_harmless(tmp_path: Path) -> None:
    template = tmp_path / "mine.j2"
    template.write_text("{{ ticker }} {{ price_usd }} {{ rsi }}\nDECISION: [BUY/SELL/HOLD] - [reason]")
    desk = Desk(tmp_path, {"context_sources": {"fear_greed": 0.0}}, f"prompt.template={template}")
    assert "warnings" not in desk.ask(fear_greed=81)[0]


def test_values_that_the_prompt_lacks_and_training_had_are_named(tmp_path: Path) -> None:
    desk = Desk(tmp_path, {"context_sources": {"fear_greed": 0.97, "headlines": 0.14}})
    answer, code = desk.ask(rsi=None, macd_hist="N/A")
    assert (answer["status"], code) == ("ok", 0)
    (warning,) = answer["warnings"]
    assert warning.startswith("context.rsi, macd_hist, fear_greed, fear_greed_class: not sent, so the prompt says N/A")
