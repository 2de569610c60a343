"""Natural mistakes: each gets one line that names the cause and the remedy, and the documented exit code."""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fakes import FakeEngine

from candletune.cli import main
from candletune.config import load_config
from candletune.console import SilentReporter
from candletune.live.signal import Trader, answer_text
from candletune.market.simulated import ensure_simulated
from candletune.runs import RunFolder

GOOD = "[base]\nmodel = 'tiny'\n[train]\ndevice = 'cpu'\n"
LLAMA = json.dumps(
    {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 64}
    | {"num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 64}
).encode()
SIGNAL = '{"ticker": "BTC", "price_usd": 97000'


@dataclass(frozen=True)
class Mistake:
    """What was done wrong.

    Attributes:
        name: of the case.
        line: the command line.
        code: the documented exit code.
        says: what the one line must hold, cause and remedy, in this order.
        config: the text (or bytes) of candletune.toml; None: there is no such file.
        files: other files in the working folder.
        stdin: what is piped in.
    """

    name: str
    line: str
    code: int
    says: tuple[str, ...]
    config: str | bytes | None = GOOD
    files: tuple[tuple[str, bytes], ...] = ()
    stdin: str = ""


DATA = "--set data.folder=candles "
MISTAKES = (
    # the command line
    Mistake("misspelled command", "trian", 2, ("trian", "train")),
    Mistake("misspelled option", "train --frce", 2, ("--frce", "--force")),
    Mistake("misspelled key", "doctor --set train.lr=1e-4", 2, ("--set", "train.lr", "learning_rate")),
    Mistake("key without a table", "doctor --set rank=8", 2, ("--set", "rank")),
    Mistake("value of another type", "doctor --set train.lora_rank=eight", 2, ("--set", "train.lora_rank", "eight")),
    Mistake("assignment without =", "doctor --set train.lora_rank", 2, ("--set train.lora_rank", "=")),
    Mistake("negative audit", "dataset --audit -5", 2, ("--audit", "-5")),
    Mistake("unknown stage value", "evaluate --criteria best", 2, ("--criteria", "full")),
    Mistake("no such configuration", "run --config nowhere.toml", 2, ("nowhere.toml", "init"), config=None),
    Mistake("doctor without a configuration", "doctor", 2, ("candletune.toml", "init"), config=None),
    Mistake("init over a file", "init", 2, ("candletune.toml", "--force")),
    Mistake("a folder as the configuration", "doctor --config .", 2, (".", "file")),
    # the configuration
    Mistake("broken TOML", "doctor", 2, ("candletune.toml", "line 2"), config="[base]\nmodel = tiny\n"),
    Mistake(
        "Windows path in double quotes",
        "doctor",
        2,
        ("candletune.toml", "'"),
        config='[data]\nfolder = "C:\\Users\\me"\n',
    ),
    Mistake("unknown table", "doctor", 2, ("candletune.toml", "trian", "train"), config="[trian]\nepochs = 3\n"),
    Mistake("zero rank", "doctor", 2, ("train.lora_rank", "1"), config="[train]\nlora_rank = 0\n"),
    Mistake(
        "context shorter than the candles",
        "doctor",
        2,
        ("data.context_timeframes", "15m"),
        config='[data]\ncontext_timeframes = ["15m"]\n',
    ),
    Mistake("not UTF-8", "doctor", 2, ("candletune.toml",), config=b"[base]\nmodel = '\xff'\n"),
    Mistake(
        "soft target without returns",
        "doctor",
        2,
        ("train.soft_target", "labels"),
        config="[train]\nsoft_target = 0.5\n[labels]\nshuffle = true\n",
    ),
    Mistake("a batch above the effective one", "doctor", 2, ("train.batch_size",), config="[train]\nbatch_size = 64\n"),
    # candles and context
    Mistake("no candles folder", "dataset --set data.folder=nowhere", 3, ("nowhere", "data.folder")),
    Mistake("pair that is not there", DATA + "dataset --set data.pairs=DOGE/USDT:USDT", 3, ("DOGE", "candles")),
    Mistake("spot name for futures candles", DATA + "dataset --set data.pairs=BTC/USD", 3, ("BTC/USD",)),
    Mistake(
        "broken feather file",
        "dataset --set data.folder=broken --set data.pairs=BTC/USDT:USDT",
        3,
        ("BTC_USDT_USDT-1h-futures.feather",),
        files=(("broken/BTC_USDT_USDT-1h-futures.feather", b"ARROW1 half a file"),),
    ),
    Mistake(
        "test_start beyond the candles",
        DATA + "dataset --set dataset.test_start=2030-01-01",
        3,
        ("test_start", "2030-01-01"),
    ),
    Mistake(
        "test_start before the candles",
        DATA + "dataset --set dataset.test_start=2010-01-01",
        3,
        ("test_start", "2010-01-01"),
    ),
    Mistake("missing Fear & Greed file", DATA + "dataset --set data.fear_greed=fg.csv", 3, ("fg.csv",)),
    Mistake(
        "Fear & Greed with other columns",
        DATA + "dataset --set data.fear_greed=fg.csv",
        3,
        ("fg.csv", "date"),
        files=(("fg.csv", b"day,number\n2024-01-01,40\n"),),
    ),
    Mistake("missing template", DATA + "dataset --set prompt.template=mine.j2", 3, ("mine.j2",)),
    # templates
    Mistake(
        "single braces",
        DATA + "dataset --set prompt.template=mine.j2",
        3,
        ("mine.j2", "{{"),
        files=(("mine.j2", b"{{ ticker }} {{ price_usd }} RSI {rsi}\nDECISION: BUY, SELL or HOLD"),),
    ),
    Mistake(
        "unknown name in the template",
        DATA + "dataset --set prompt.template=mine.j2",
        3,
        ("mine.j2", "rsi_14", "rsi"),
        files=(("mine.j2", b"{{ ticker }} {{ price_usd }} RSI {{ rsi_14 }}\nDECISION: BUY, SELL or HOLD"),),
    ),
    Mistake(
        "template without a demand",
        DATA + "dataset --set prompt.template=mine.j2",
        3,
        ("mine.j2", "DECISION:"),
        files=(("mine.j2", b"{{ ticker }} {{ price_usd }} RSI {{ rsi }}"),),
    ),
    Mistake(
        "number format on text",
        DATA + "dataset --set prompt.template=mine.j2",
        3,
        ("mine.j2", "raw."),
        files=(("mine.j2", b'{{ ticker }} {{ price_usd }} RSI {{ "%.2f"|format(rsi) }}\nDECISION: BUY, SELL or HOLD'),),
    ),
    Mistake(
        "broken Jinja",
        DATA + "dataset --set prompt.template=mine.j2",
        3,
        ("mine.j2", "line 2"),
        files=(("mine.j2", b"RSI {{ rsi\nDECISION:"),),
    ),
    # stages out of order
    Mistake("train before dataset", "train", 3, ("dataset", "candletune dataset")),
    Mistake("export before train", "export", 3, ("candletune train",)),
    Mistake("verify before export", "verify", 3, ("export", "candletune export")),
    Mistake("replay before export", "replay", 3, ("export", "candletune export")),
    Mistake("evaluate before replay", DATA + "evaluate", 3, ("replay",)),
    Mistake("report before evaluate", DATA + "report", 3, ("candletune evaluate",)),
    Mistake("review before replay", "review --no-browser --port 0", 3, ("replay",)),
    Mistake("promote before export", "promote", 3, ("export",)),
    Mistake("rollback without a promotion", "rollback", 2, ("promot",)),
    Mistake("journal that is not there", DATA + "evaluate --journal nowhere.jsonl", 3, ("nowhere.jsonl",)),
    Mistake("journal with a quote in its name", DATA + "evaluate --journal o'brien.jsonl", 3, ("o'brien.jsonl",)),
    # base and adapters
    Mistake("no such base", DATA + "run --set base.model=./ministral", 3, ("ministral", "base.model")),
    Mistake(
        "base of an unsupported architecture",
        DATA + "run --set base.model=gpt",
        3,
        ("gpt", "Llama"),
        files=(
            ("gpt/config.json", b'{"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"}'),
            ("gpt/model.safetensors", b"\x02\0\0\0\0\0\0\0{}"),
        ),
    ),
    Mistake(
        "pickled base",
        DATA + "run --set base.model=old",
        3,
        ("old", "safetensors"),
        files=(("old/config.json", LLAMA), ("old/pytorch_model.bin", b"x")),
    ),
    Mistake("missing incumbent", DATA + "run --set incumbent.adapter=old.gguf", 3, ("old.gguf", "incumbent.adapter")),
    Mistake(
        "incumbent that is no GGUF",
        DATA + "run --set incumbent.adapter=old.gguf",
        3,
        ("old.gguf",),
        files=(("old.gguf", b"GIF89a"),),
    ),
    Mistake("missing base GGUF", DATA + "run --set base.gguf=base.gguf", 3, ("base.gguf",)),
    Mistake("a GPU that is not there", DATA + "run --set train.device=cuda", 3, ("train.device", "cuda")),
)


@pytest.fixture(scope="module")
def candles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A year and a half of simulated candles in freqtrade's files."""
    folder = tmp_path_factory.mktemp("market")
    config = load_config(None, ["simulate.enabled=true", "simulate.years=1.5", f"run.folder={folder}"])
    return ensure_simulated(config, RunFolder(folder), SilentReporter())


@pytest.fixture
def folder(candles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder, with candles and no terminal."""
    (tmp_path / "candles").symlink_to(candles)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    yield tmp_path


def words_of(line: str) -> list[str]:
    """The command first: `DATA` stands before it for brevity."""
    words = line.split()
    place = next((i for i, word in enumerate(words) if not word.startswith("--") and words[i - 1] != "--set"), 0)
    return [words[place], *words[:place], *words[place + 1 :]]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_one_line_says_what_and_how(
    mistake: Mistake, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if mistake.config is not None:
        text = mistake.config
        (folder / "candletune.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    for name, content in mistake.files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    monkeypatch.setattr("sys.stdin", io.StringIO(mistake.stdin))
    before = snapshot(folder)
    with pytest.raises(SystemExit) as leave:
        main(words_of(mistake.line))
    err = capsys.readouterr().err
    assert leave.value.code == mistake.code, err
    assert "internal error" not in err
    assert "Traceback" not in err
    rest = " ".join(err.split())
    for word in mistake.says:
        assert word.lower() in rest.lower(), f"{word!r} is not in: {err}"
    assert snapshot(folder) == before, "a refused command leaves no half-written file"


def snapshot(folder: Path) -> list[str]:
    """Names of files that are more than a lock."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(".lock") and "candles" not in path.parts
    )


CONTEXTS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("not JSON", "BTC 97000", ("context", "JSON")),
    ("no ticker", '{"price_usd": 97000}', ("context.ticker",)),
    ("no price", '{"ticker": "BTC"}', ("context.price_usd",)),
    ("misspelled key", SIGNAL + ', "rsi_14": 28.3}', ("rsi_14", "rsi")),
    ("number as text", SIGNAL + ', "rsi": "oversold"}', ("context.rsi", "oversold")),
    ("RSI out of range", SIGNAL + ', "rsi": 283}', ("context.rsi", "100")),
    ("a list", "[1, 2]", ("object",)),
    ("unknown adapter", SIGNAL + ', "_lora_override": "nobody"}', ("_lora_override", "nobody")),
)


@pytest.fixture
def trader(tmp_path: Path) -> Iterator[Trader]:
    """`signal` over an engine without a model."""
    config = load_config(None, [f"live.state={tmp_path / 'active.json'}", f"run.folder={tmp_path / 'run'}"])
    trader = Trader(config, engine=FakeEngine())
    yield trader
    trader.close()


@pytest.mark.parametrize(("text", "says"), [case[1:] for case in CONTEXTS], ids=[case[0] for case in CONTEXTS])
def test_a_wrong_context_is_answered(text: str, says: tuple[str, ...], trader: Trader) -> None:
    found, code = answer_text(trader, text)
    assert code == 3
    assert found["status"] == "error"
    assert json.dumps(found), "an answer is always JSON"
    for word in says:
        assert word in str(found["error"]), found


def test_there_are_at_least_forty() -> None:
    assert len(MISTAKES) + len(CONTEXTS) >= 40
