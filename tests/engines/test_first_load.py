"""An adapter's first load in a child process: what crashes it is a refusal, and what is good costs once."""

import json
import textwrap
from pathlib import Path

import llama_cpp
import pytest

import candletune.engines.first_load as module
from candletune.config import Config, load_config
from candletune.engines.first_load import FirstLoads
from candletune.engines.llama_cpp import TRIED
from candletune.errors import InputError
from candletune.gguf.header import read_header
from candletune.hashes import sha256_path
from candletune.live.signal import Trader, answer_text
from fuzz.tiny_lora import tiny_lora, write_tiny_base

pytestmark = pytest.mark.llamacpp


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_base(tmp_path_factory.mktemp("tiny") / "base.gguf")


@pytest.fixture
def good(base: Path, tmp_path: Path) -> Path:
    (path := tmp_path / "good.gguf").write_bytes(tiny_lora(base).written())
    return path


def integers(base: Path, path: Path) -> Path:
    """A LoRA of I32, which passes llama.cpp's own checks: it jumps to nothing when it computes."""
    file = tiny_lora(base)
    for info in file.tensors:
        info.kind = 26
    path.write_bytes(file.written())
    return path


def child(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str) -> None:
    (script := folder / "child.py").write_text(textwrap.dedent(text))
    monkeypatch.setattr(module, "CHILD", script)


def test_what_crashes_llama_cpp_is_a_refusal(base: Path, tmp_path: Path) -> None:
    """The header check is left out here; nothing in this process may load that file."""
    path = integers(base, tmp_path / "integers.gguf")
    with pytest.raises(InputError, match=r"integers\.gguf: it ends llama\.cpp \(.*process of its own"):
        FirstLoads(read_header(base), None, 1).check(path)


def test_a_good_file_is_tried_once(base: Path, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = tmp_path / "cache" / TRIED
    digest = FirstLoads(read_header(base), memory, 1).check(good)
    assert len(digest) == 64
    child(monkeypatch, tmp_path, "import os; os.abort()")
    assert FirstLoads(read_header(base), memory, 1).check(good) == digest
    for forgotten in ("nothing", "another adapter", "another base", "another llama.cpp"):
        adapter, over = good, base
        if forgotten == "nothing":
            memory = None  # type: ignore[assignment]
        elif forgotten == "another adapter":
            (adapter := tmp_path / "b.gguf").write_bytes(tiny_lora(base, seed=2).written())
        elif forgotten == "another base":
            (over := tmp_path / "base.gguf").write_bytes(base.read_bytes() + bytes(32))
        else:
            monkeypatch.setattr(llama_cpp, "__version__", "9")
        with pytest.raises(InputError, match="it ends llama"):
            FirstLoads(read_header(over), memory, 1).check(adapter)
        memory = tmp_path / "cache" / TRIED


ENDINGS = {
    "import ctypes; ctypes.string_at(0)": "it ends llama.cpp",
    "import os; os.abort()": "it ends llama.cpp",
    "raise SystemExit(77)": "exit code 77",
    "print('no such layer'); raise SystemExit(3)": "llama.cpp refuses the adapter (no such layer)",
    "print('cannot'); raise SystemExit(4)": "no memory to try it",
    "import time; time.sleep(600)": "did not get done with it in 2 s",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_however_the_child_ends(
    ending: str, base: Path, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child(monkeypatch, tmp_path, ending)
    monkeypatch.setattr(module, "SECONDS", 2.0)
    with pytest.raises(InputError) as caught:
        FirstLoads(read_header(base), tmp_path / TRIED, 1).check(good)
    assert ENDINGS[ending] in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / TRIED).exists()


def settings(base: Path, folder: Path) -> Config:
    return load_config(
        None,
        [
            f"run.folder={folder / 'run'}",
            f"base.gguf={base}",
            f"base.cache={folder / 'cache'}",
            f"live.state={folder / 'active.json'}",
            "engine.threads=1",
            "engine.max_tokens=8",
        ],
    )


def test_a_signal_survives_the_file_and_goes_on(
    base: Path, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before, the server was gone."""
    bad = integers(base, tmp_path / "bad.gguf")
    monkeypatch.setattr("candletune.gguf.header.check_adapter_file", lambda *_: None)  # as if it were not known yet
    trader = Trader(settings(base, tmp_path))
    context = {"ticker": "BTC", "price_usd": 1.0, "rsi": 30}
    answer, code = answer_text(trader, json.dumps(context | {"_lora_override": str(bad)}))
    assert (code, answer["status"]) == (3, "error")
    assert "it ends llama.cpp" in answer["error"]
    plain, _ = answer_text(trader, json.dumps(context))
    adapted, code = answer_text(trader, json.dumps(context | {"_lora_override": str(good)}))
    assert (code, adapted["status"]) == (0, "ok")
    assert adapted["probabilities"] != plain["probabilities"]
    trader.close()


def test_a_file_that_changes_between_trying_and_loading_is_not_used(
    base: Path, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trader = Trader(settings(base, tmp_path))

    def swap(self: FirstLoads, adapter: Path) -> str:
        digest = sha256_path(adapter)
        adapter.write_bytes(tiny_lora(base, seed=3).written())
        return digest

    monkeypatch.setattr(FirstLoads, "check", swap)
    answer, _ = answer_text(trader, json.dumps({"ticker": "BTC", "price_usd": 1.0, "_lora_override": str(good)}))
    assert "changed while it was loaded" in answer["error"]
    trader.close()
