"""A new prompt field as docs/extending.md says it: one module and one template line, on a copy of the package."""

import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

ROOT = Path(__file__).parents[2]
PAIRS = ("BTC", "ETH")
SCRIPT = """
import json, sys
from pathlib import Path
from dataclasses import replace
import numpy as np, polars as pl
from candletune.config import load_config
from candletune.dataset.pairs import load_pair
from candletune.evaluation.baselines import Task, baseline_actions
from candletune.fields.columns import market_rows
from candletune.fields.registry import FEATURES, KEY_NAMES
from candletune.prompts.context import clean_context, context_of
from candletune.prompts.grounding import check_reason
from candletune.prompts.template import load_template

config = load_config(Path(sys.argv[1]), ())
candles = load_pair(config, config.data.pairs[0])
rows = market_rows(candles, config.data)
row = rows.row(-1, named=True)
cut = len(candles.frame) - 700
past = market_rows(replace(candles, frame=candles.frame.head(cut)), config.data)
claims = {
    text: [claim.holds for claim in check_reason(text.format(round(row["adx"], 1)), context_of(row))]
    for text in ("an ADX of {}", "ADX is 99", "VWAP rises")
}
classes = np.arange(len(rows)) % 3
labelled = rows.with_columns(adx=pl.Series(np.array([10.0, 30.0, 60.0])[classes]), past_return=pl.lit(0.0))
# Nothing else tells the class, so only a baseline that reads the field can be right.
others = ("rsi", "macd_hist", "ema_gap_pct", "bb_percent", "change_24h")
blind = labelled.with_columns(pl.lit(1.0).alias(name) for name in others)
weights = np.ones(len(classes))
task = Task(blind, blind, classes, weights, threshold=0.02, held_out=blind, natural=None, calls=None, seed=1)
actions = baseline_actions(task)
print(json.dumps({
    "key": "adx" in KEY_NAMES,
    "features": [feature.name for feature in FEATURES],
    "claims": claims,
    "row": row["adx"],
    "live": load_template().render(clean_context({"ticker": "BTC", "price_usd": 1, "adx": "31.27"})),
    "truncation": past.equals(rows.filter(pl.col("decision_time") <= past["decision_time"][-1])),
    "boosting": float((actions["gradient boosting"] == classes).mean()),
}))
"""


def walk(seed: int, rows: int) -> pl.DataFrame:
    rng = random.Random(seed)  # noqa: S311
    price, records = 100.0, []
    for hour in range(rows):
        opened, price = price, price * math.exp(rng.gauss(0, 0.008))
        high, low = max(opened, price) * 1.002, min(opened, price) * 0.998
        records.append((datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=hour), opened, high, low, price, 1.0))
    names = ("open", "high", "low", "close", "volume")
    return pl.DataFrame(
        records, schema={"date": pl.Datetime("us", "UTC")} | {name: pl.Float64() for name in names}, orient="row"
    )


def block(language: str) -> str:
    """The block of that language in the page's section about prompt fields."""
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    section = page.partition("## A prompt field")[2].partition("\n## ")[0]
    (found,) = re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)
    return str(found)


class Copy:
    """A copy of the package, and a configuration for it."""

    def __init__(self, folder: Path) -> None:
        self.package = folder / "src" / "candletune"
        shutil.copytree(ROOT / "src" / "candletune", self.package, ignore=shutil.ignore_patterns("__pycache__"))
        for seed, name in enumerate(PAIRS):
            walk(seed, 2600).write_ipc(folder / f"{name}_USDT_USDT-1h-futures.feather")
        self.config = folder / "candletune.toml"
        self.run_folder = folder / "run"
        self.config.write_text(
            f"[data]\nfolder = '{folder}'\n[run]\nfolder = '{self.run_folder}'\n"
            "[dataset]\nper_class = 40\nnatural_eval = 20\ntest_start = 2024-04-01\n",
            encoding="utf-8",
        )

    def call(self, *arguments: str) -> str:
        environment = os.environ | {"PYTHONPATH": str(self.package.parent)}
        done = subprocess.run(
            [sys.executable, *arguments], capture_output=True, text=True, env=environment, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def dataset(self) -> str:
        return self.call("-m", "candletune", "dataset", "--config", str(self.config))

    def messages(self) -> list[tuple[str, str]]:
        lines = (self.run_folder / "dataset" / "lora_training.jsonl").read_text(encoding="utf-8").splitlines()
        return [(line["messages"][0]["content"], line["messages"][1]["content"]) for line in map(json.loads, lines)]


@pytest.mark.slow
def test_a_field_is_one_module_and_one_template_line(tmp_path: Path) -> None:
    copy = Copy(tmp_path)
    copy.dataset()
    assert "[up to date]" in copy.dataset()
    before = copy.messages()
    module, line = (block(language) for language in ("python", "jinja"))
    (copy.package / "fields" / "adx.py").write_text(module, encoding="utf-8")
    template = copy.package / "prompts" / "templates" / "trader.j2"
    text = template.read_text(encoding="utf-8")
    template.write_text(text.replace("EMA(9/21)", f"{line}EMA(9/21)"), encoding="utf-8")

    # The edited packaged template is another input: nothing reads "up to date".
    assert "[up to date]" not in copy.dataset()
    after = copy.messages()
    assert not any("ADX" in prompt for prompt, _ in before)
    assert all(re.search(r"^ADX\(14\): \d+\.\d$", prompt, re.MULTILINE) for prompt, _ in after)
    said = [completion for _, completion in after if "ADX" in completion]
    assert len(said) >= 5
    assert "adx" in pl.read_parquet(copy.run_folder / "dataset" / "lora_training.meta.parquet").columns
    assert " 0 problems" in copy.call("-m", "candletune", "dataset", "--config", str(copy.config), "--audit", "20")

    facts = json.loads(copy.call("-c", SCRIPT, str(copy.config)).splitlines()[-1])
    assert facts["key"]
    assert facts["features"][-1] == "adx"
    assert 0 < facts["row"] < 100
    assert facts["claims"] == {"an ADX of {}": [True], "ADX is 99": [False], "VWAP rises": [False]}
    assert "ADX(14): 31.3" in facts["live"].splitlines()
    assert facts["truncation"]
    assert facts["boosting"] > 0.95
