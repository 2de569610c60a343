"""The demo's configuration as a file is the one it ran with."""

from pathlib import Path

from candletune.config import load_config
from candletune.demo import demo_config, demo_toml


def test_every_setting_comes_back(tmp_path: Path) -> None:
    more = [
        "train.max_steps=7",
        "data.pairs=['A/USDT:USDT', 'B/USDT:USDT']",
        'incumbent.name=a "name" # of mine',
        "seed=4",
    ]
    path = tmp_path / "candletune.toml"
    path.write_text(demo_toml(tmp_path / "run", signal=0.5, seed=3, assignments=more), encoding="utf-8")
    read = load_config(path)
    assert read == demo_config(tmp_path / "run", signal=0.5, seed=3, assignments=more)
    assert (read.seed, read.train.max_steps, read.incumbent.name) == (4, 7, 'a "name" # of mine')
