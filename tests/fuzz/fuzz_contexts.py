"""Hostile contexts to `signal --serve` and `shadow --stdin`: each gets a JSON answer, in one line that is UTF-8."""

import io
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from fakes import FakeEngine

from candletune.config import load_config
from candletune.console import SilentReporter
from candletune.decisions import Decision
from candletune.engines import Generation
from candletune.errors import InputError
from candletune.live.contexts import ContextReader
from candletune.live.lines import error_answer, read_lines
from candletune.live.signal import Trader, answer_text
from fuzz.damage import damaged, hostile_json
from fuzz.driver import Check, Target

GOOD = {
    "ticker": "BTC",
    "price_usd": 97_123.5,
    "change_24h": -1.2,
    "rsi": 28.3,
    "macd_hist": -12.5,
    "ema_bullish": True,
    "bb_position": "near the lower band",
    "fear_greed": 40,
    "news_sentiment": "neutral",
    "timeframe_summary": "4h bullish RSI 55",
    "headlines": ["ETF inflows rise", "Fees fall"],
    "timestamp": "2025-01-01T11:30:00Z",
    "_lora_override": None,
}
NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)
CONTROL = ("[INST]", "</s>", "<|im_end|>", "<start_of_turn>", "<<SYS>>")


class Listening(FakeEngine):
    """Keeps the last prompt."""

    prompt = ""

    def generate(self, prompt: str, *, action: Decision | None = None) -> Generation:
        self.prompt = prompt
        return super().generate(prompt, action=action)


def make(rng: random.Random) -> bytes:
    """One line, or several by accident."""
    text = hostile_json(rng, GOOD).encode("utf-8", "surrogatepass")
    return damaged(rng, text) if rng.random() < 0.2 else text


@contextmanager
def opened(folder: Path) -> Iterator[Check[bytes]]:
    settings = [f"run.folder={folder}", f"live.state={folder / 'active.json'}", f"data.folder={folder}"]
    config = load_config(None, [*settings, 'data.pairs=["BTC/USDT:USDT"]'])
    engine = Listening()
    trader = Trader(config, engine=engine)
    reader = ContextReader(config, SilentReporter(), clock=lambda: NOON)

    def check(case: bytes) -> str:
        words = []
        for line in read_lines(io.BytesIO(case)):
            engine.prompt = ""
            answer, code = answer_text(trader, line)
            assert "internal error" not in str(answer.get("error")), answer
            assert (code == 0) == (answer["status"] != "error")
            text = json.dumps(answer, ensure_ascii=False)
            assert "\n" not in text.encode().decode()
            assert len(text) < 10_000
            assert not [token for token in CONTROL if token in engine.prompt], engine.prompt
            try:
                due = reader.due(line)
                assert due.ticker == "BTC"
                assert 0 < due.price < float("inf")
                assert due.timestamp <= NOON
            except InputError as refusal:
                assert json.dumps(error_answer(refusal), ensure_ascii=False).encode()
            words.append(str(answer["status"]))
        return " ".join(words[:2]) or "nothing"

    yield check
    trader.close()


TARGET = Target(make=make, opened=opened)
