"""The example's path: a trader's f-string becomes a template that gives the same bytes, in the dataset too."""

import importlib.util
import json
import math
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from candletune.cli import main
from candletune.config import load_config
from candletune.dataset.rows import decision_rows
from candletune.fields.registry import KEY_NAMES, TEMPLATE_NAMES
from candletune.prompts.context import context_of, raw_values

EXAMPLE = Path(__file__).parents[2] / "examples" / "bring_your_trader"


def trader() -> Any:
    spec = importlib.util.spec_from_file_location("the_trader", EXAMPLE / "trader.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out, shown.err

    return call


def test_the_example_as_its_docstring_says_it(run: Run) -> None:
    module = trader()
    lines = [json.dumps({"context": c, "prompt": module.build_prompt(c)}) for c in module.CONTEXTS]
    assert (EXAMPLE / "prompts.jsonl").read_text().splitlines() == lines
    code, out, _ = run("template", "from-fstring", EXAMPLE / "trader.py", "--name", "build_prompt")
    assert (code, out) == (0, (EXAMPLE / "trader.j2").read_text())
    code, out, _ = run("template", "check", EXAMPLE / "trader.j2", "--samples", EXAMPLE / "prompts.jsonl")
    assert code == 0
    assert "2 prompts, all the same to the byte" in out


def test_the_dataset_renders_what_the_trader_would_have_sent(tmp_path: Path) -> None:
    rng = random.Random(3)  # noqa: S311
    closes = [100.0]
    for _ in range(1199):
        closes.append(closes[-1] * math.exp(rng.gauss(0, 0.01)))
    dates = [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=hour) for hour in range(1200)]
    frame = pl.DataFrame(
        {"date": pl.Series(dates, dtype=pl.Datetime("us", "UTC")), "open": closes, "high": closes, "low": closes,
         "close": closes, "volume": 1.0}
    )  # fmt: skip
    frame.write_ipc(tmp_path / "BTC_USDT_USDT-1h-futures.feather")
    (tmp_path / "fear.csv").write_text("date,value\n2024-02-01,22\n2024-02-02,80\n")
    news = "published_at,polarity,title\n2024-02-01T03:00:00+00:00,-0.4,One\n2024-02-01T04:00:00+00:00,0.1,Two\n"
    (tmp_path / "news.csv").write_text(news)
    config = load_config(
        None,
        [
            f"data.folder='{tmp_path}'",
            "data.pairs=['BTC/USDT:USDT']",
            f"data.fear_greed='{tmp_path / 'fear.csv'}'",
            f"data.headlines='{tmp_path / 'news.csv'}'",
            f"prompt.template='{EXAMPLE / 'trader.j2'}'",
        ],
    )
    rows = decision_rows(config, start=datetime(2024, 1, 31, 20, tzinfo=UTC), end=datetime(2024, 2, 3, tzinfo=UTC))
    build_prompt = trader().build_prompt
    moods = set()
    for row in rows.iter_rows(named=True):
        # What a live trader has in hand: numbers, flags, texts, a list of titles.
        own = raw_values(context_of(row))
        moods.add(own["fear_greed"])
        sent = build_prompt(own).removeprefix("[INST]").removesuffix("[/INST]")
        assert row["prompt"] == sent
    assert moods == {50, 22, 80}


def samples(tmp_path: Path, *prompts: Any) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n".join(p if isinstance(p, str) else json.dumps(p) for p in prompts), encoding="utf-8")
    return path


TEMPLATE = "{{ ticker }} é {{ price_usd }}\nRSI {{ rsi }}\nDECISION: [BUY/SELL/HOLD] - [reason]"
CONTEXT = {"ticker": "BTC", "price_usd": 64250.5, "rsi": 28.44}
SENT = "BTC é 64,250.50\nRSI 28.4\nDECISION: [BUY/SELL/HOLD] - [reason]"


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.j2"
    path.write_text(TEMPLATE, encoding="utf-8")
    return path


def test_the_first_differing_byte_of_each_row_is_told(run: Run, mine: Path, tmp_path: Path) -> None:
    path = samples(
        tmp_path,
        {"context": CONTEXT, "prompt": f"<s>[INST] {SENT} [/INST]"},
        {"context": CONTEXT, "prompt": SENT.replace("28.4", "28.44")},
        "",
        {"context": CONTEXT, "prompt": SENT[:-3]},
        {"context": CONTEXT | {"rsi_14": 1, "rsi": None}, "prompt": SENT},
    )
    code, out, err = run("template", "check", mine, "--samples", path)
    assert code == 4
    lines = out.splitlines()
    # The é is two bytes: 17 of the first line with its end, 8 of the second.
    assert lines[2:5] == [
        "line 2: differs at byte 25 (line 2, column 9)",
        "  sent      RSI 28.44",
        "  rendered  RSI 28.4",
    ]
    assert lines[5].startswith("line 4: differs at byte")
    assert lines[6].endswith("[reas<end>")
    assert lines[-1] == ("line 5: context.rsi_14: no such key; did you mean rsi? Send it by that name, or leave it out")
    assert "1 prompts: [INST] and [/INST] left out" in out
    assert "3 of 4 prompts differ" in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", 'line 1 is not {"context": {...}, "prompt": "..."}; mend or remove it'),
        ('{"prompt": "x"}', "line 1 is not"),
        ('{"context": 3, "prompt": "x"}', "line 1 is not"),
        ("", "no samples"),
    ],
)
def test_broken_samples_are_input_errors(run: Run, mine: Path, tmp_path: Path, line: str, said: str) -> None:
    code, _, err = run("template", "check", mine, "--samples", samples(tmp_path, line))
    assert code == 3
    assert said in err
    assert "internal" not in err


def test_missing_files_are_one_line(run: Run, mine: Path, tmp_path: Path) -> None:
    for arguments in (
        ("check", mine, "--samples", tmp_path / "none"),
        ("check", tmp_path / "none"),
        ("show", tmp_path / "none"),
        ("from-fstring", tmp_path / "none"),
    ):
        code, _, err = run("template", *arguments)
        assert code == 3
        assert "none" in err
        assert len(err.splitlines()) == 1


def test_show_prints_the_packaged_template(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("template", "show")
    assert code == 0
    copy = tmp_path / "copy.j2"
    copy.write_text(out)
    _, checked, _ = run("template", "check", copy)
    assert "sound; sha256 0727135c52a2" in checked, "the copy has the packaged template's hash"
    assert "Asset: BTC" in run("template", "show", "--rendered")[1]


def test_check_reads_the_configured_template(run: Run, mine: Path, tmp_path: Path) -> None:
    config = tmp_path / "candletune.toml"
    config.write_text("[prompt]\ntemplate = 'mine.j2'\n")
    code, out, _ = run("template", "check", "--config", config)
    assert (code, out.startswith(str(mine))) == (0, True)


def test_every_field_is_listed_with_its_source(run: Run) -> None:
    code, out, _ = run("template", "fields")
    assert code == 0
    assert "rsi: RSI(14), Wilder (1978)" in out
    assert "  rsi = 50.0\n  raw.rsi = 50.0\n" in out
    assert "raw.fear_greed = 50, raw.fear_greed_class = 'Neutral'" in out
    for name in (*TEMPLATE_NAMES, *(f"raw.{key}" for key in KEY_NAMES)):
        assert f"{name} = " in out
