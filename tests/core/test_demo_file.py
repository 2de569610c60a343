"""The demo's configuration as a file is the one it ran with."""

from pathlib import Path

import pytest

from candletune.config import load_config
from candletune.demo import demo_config, demo_toml


def test_every_setting_comes_back(tmp_path: Path) -> None:
    more = [
        "train.max_steps=7",
        "data.pairs=['A/USDT:USDT', 'B/USDT:USDT']",
        'incumbent.name=a "name" # of mine',
        "seed=4",
    ]
    path = tmp_path / "run" / "candletune.toml"
    path.parent.mkdir()
    path.write_text(demo_toml(tmp_path / "run", signal=0.5, seed=3, assignments=more), encoding="utf-8")
    read = load_config(path)
    assert read == demo_config(tmp_path / "run", signal=0.5, seed=3, assignments=more)
    assert (read.seed, read.train.max_steps, read.incumbent.name) == (4, 7, 'a "name" # of mine')


def test_the_folder_can_be_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = demo_toml(Path("run"), signal=1, seed=3)
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / "candletune.toml").write_text(text, encoding="utf-8")
    read = load_config(moved / "candletune.toml")
    assert read.run.folder == moved
    assert read.live.state == moved / "live" / "active.json"
    assert read.incumbent.adapter == moved / "incumbent" / "gguf" / "custom-trading-lora.gguf"
