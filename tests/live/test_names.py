"""A hash in a journal has the name that people know the model by."""

from pathlib import Path

import pytest

from candletune.config import Config, load_config
from candletune.decide.names import name_of
from candletune.gguf.catalogue import CatalogueEntry, put_in_place, read_catalogue, record, versioned_name
from candletune.hashes import sha256_path
from candletune.live.models import candidate_model, named_model
from candletune.live.promotion import promote, rollback
from candletune.runs import RunFolder

Made = tuple[Config, RunFolder]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    (tmp_path / "old.gguf").write_bytes(b"incumbent")
    settings = [f"run.folder={tmp_path / 'run'}", f"live.state={tmp_path / 'live' / 'active.json'}"]
    config = load_config(None, [*settings, f"incumbent.adapter={tmp_path / 'old.gguf'}", "incumbent.name=theirs"])
    return config, RunFolder(config.run.folder)


def export(run: RunFolder, content: bytes, day: str) -> str:
    """As the export stage does it; returns the hash."""
    run.gguf.mkdir(parents=True, exist_ok=True)
    staged = run.gguf / ".staged"
    staged.write_bytes(content)
    put_in_place(staged, run.adapter_gguf)
    digest = sha256_path(run.adapter_gguf)
    exported = f"{day}T01:00:00+00:00"
    entry = CatalogueEntry(file=run.adapter_gguf.name, sha256=digest, kind="adapter", exported=exported)
    record(run.gguf, entry)
    return digest


def test_exports_have_names_that_stay(made: Made) -> None:
    config, run = made
    first = export(run, b"first", "2026-10-31")
    second = export(run, b"second", "2026-11-30")
    names = [f"custom-trading-lora-20261031-{first[:8]}", f"custom-trading-lora-20261130-{second[:8]}"]
    assert [name_of(config, run, digest) for digest in (first, second)] == names
    assert (run.gguf / f"{names[0]}.gguf").read_bytes() == b"first"
    assert [entry.file for entry in read_catalogue(run.gguf)] == [f"{names[0]}.gguf", "custom-trading-lora.gguf"]
    assert export(run, b"second", "2026-12-24") == second
    assert versioned_name(run.adapter_gguf) == names[1], "the same file keeps its name"
    for name, content in zip(names, (b"first", b"second"), strict=True):
        model = named_model(config, name)
        assert model is not None
        assert model.path is not None
        assert (model.name, model.path.read_bytes()) == (name, content)


def test_older_versions_under_their_first_names_are_found(made: Made) -> None:
    config, run = made
    first = export(run, b"first", "2026-10-31")
    run.adapter_gguf.rename(run.gguf / f"custom-trading-lora.{first[:8]}.gguf")
    export(run, b"second", "2026-11-30")
    model = named_model(config, f"custom-trading-lora-20261031-{first[:8]}")
    assert model is not None
    assert model.sha256 == first


@pytest.mark.usefixtures("any_file_loads")
def test_names_of_hashes(made: Made) -> None:
    config, run = made
    assert config.incumbent.adapter is not None
    incumbent = sha256_path(config.incumbent.adapter)
    assert name_of(config, run, None) == "bare base"
    assert name_of(config, run, incumbent) == "theirs"
    assert name_of(config, run, "f" * 64) == "f" * 12
    digest = export(run, b"first", "2026-10-31")
    name = candidate_model(run).name
    promote(config, force="test")
    rollback(config)
    for path in run.gguf.iterdir():
        path.unlink()  # the run folder is gone, the state file remembers
    config.incumbent.adapter.unlink()
    assert name_of(config, run, digest) == name
    assert name_of(config, run, incumbent) == "theirs"
    config.live.state.write_text("{")
    assert name_of(config, run, digest) == digest[:12]
