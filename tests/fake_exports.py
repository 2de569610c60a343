"""Exports that a header check takes for LoRA files, recorded as the export stage does, and a base beside them."""

from pathlib import Path

from candletune.config import Config
from candletune.engines import Engine
from candletune.gguf.catalogue import CatalogueEntry, put_in_place, record
from candletune.hashes import sha256_path
from candletune.runs import RunFolder


def export(run: RunFolder, name: str, day: str) -> str:
    """A LoRA of that name, exported on that day; returns its hash."""
    from gguf import GGUFWriter

    run.gguf.mkdir(parents=True, exist_ok=True)
    run.base_gguf.write_bytes(b"base")
    staged = run.gguf / ".staged"
    writer = GGUFWriter(staged, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 16.0)
    writer.add_string("general.name", name)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    put_in_place(staged, run.adapter_gguf)
    digest = sha256_path(run.adapter_gguf)
    exported = f"{day}T01:00:00+00:00"
    record(run.gguf, CatalogueEntry(file=run.adapter_gguf.name, sha256=digest, kind="adapter", exported=exported))
    return digest


class Opened:
    """Opens engines without a model, and remembers which."""

    def __init__(self) -> None:
        self.engines: list[Engine] = []
        self.bases: list[str] = []

    def __call__(self, config: Config, run: RunFolder, path: Path | None) -> Engine:
        """One more engine."""
        from fakes import FakeEngine

        engine = FakeEngine()
        self.engines.append(engine)
        self.bases.append(run.path.name if path is None else path.name)
        return engine
