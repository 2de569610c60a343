"""Damaged LoRA files asked through `signal` by path: a one-line refusal or an answer, and the process goes on.

Few cases in CI: each file that passes the header check is loaded in a child process first, which takes about a second.
"""

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from candletune.config import load_config
from candletune.live.overrides import MAX_OVERRIDES
from candletune.live.signal import Trader, answer_text
from fuzz.damage import damaged
from fuzz.driver import Check, Target
from fuzz.gguf_cases import changed
from fuzz.tiny_lora import tiny_lora, write_tiny_base


@cache
def _base() -> Path:
    folder = TemporaryDirectory(prefix="fuzz-base-")
    _KEPT.append(folder)
    return write_tiny_base(Path(folder.name) / "base.gguf")


_KEPT: list[TemporaryDirectory[str]] = []


def make(rng: random.Random) -> bytes:
    """Bytes of the whole file, bytes before the data, or entries."""
    file = tiny_lora(_base())
    way = rng.randrange(3)
    if way == 0:
        return changed(rng, file).written()
    whole = file.written()
    head = len(whole) - sum(len(info.data) for info in file.tensors)
    return damaged(rng, whole) if way == 1 else damaged(rng, whole[:head]) + whole[head:]


@contextmanager
def opened(folder: Path) -> Iterator[Check[bytes]]:
    """One trader for as many good files as it takes."""
    settings = [
        f"run.folder={folder / 'run'}",
        f"base.gguf={_base()}",
        f"base.cache={folder / 'cache'}",
        f"live.state={folder / 'active.json'}",
        "engine.threads=1",
        "engine.max_tokens=8",
        "engine.context=512",
    ]
    config = load_config(None, settings)
    trader = Trader(config)
    number = good = 0
    path = folder / "0.gguf"

    def check(case: bytes) -> str:
        nonlocal trader, number, good, path
        path.unlink(missing_ok=True)
        number += 1
        path = folder / f"{number}.gguf"
        path.write_bytes(case)
        context = {"ticker": "BTC", "price_usd": 97_000.0, "rsi": 28.3, "_lora_override": str(path)}
        answer, code = answer_text(trader, json.dumps(context))
        if answer["status"] != "error":
            assert code == 0
            assert answer["status"] == "invalid" or answer["action"] in ("BUY", "SELL", "HOLD")
            good += 1
            if good == MAX_OVERRIDES:
                trader.close()
                trader, good = Trader(config), 0
            return str(answer["status"])
        error = answer["error"]
        assert code == 3, error
        assert error, answer
        assert "\n" not in error
        assert len(error) <= 1_000
        assert "internal error" not in error
        return "ended the child" if "it ends llama.cpp" in error else "refused"

    yield check
    trader.close()
    path.unlink(missing_ok=True)


TARGET = Target(make, opened, cases=20)
