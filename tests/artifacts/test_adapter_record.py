"""What an adapter and a GGUF say of themselves: written as before, and refused in one line where it is damaged."""

import json
from pathlib import Path
from typing import Any

import pytest

import gguf
from candletune.artifacts import AdapterRecord, ModelManifest
from candletune.errors import InputError
from candletune.gguf.header import MANIFEST_KEY, read_header

OLD: dict[str, Any] = {
    "version": 1,
    "base": "b",
    "base_sha256": "0" * 64,
    "template_sha256": "1" * 64,
    "dataset_sha256": "2" * 64,
    "train_end": "2024-01-01T00:00:00+00:00",
    "class_prior": [0.3, 0.3, 0.4],
    "natural_prior": {"BUY": 0.2, "SELL": 0.2, "HOLD": 0.6},
    "decision_ids": [1, 2, 3],
}


def record(folder: Path, content: dict[str, Any]) -> AdapterRecord:
    path = folder / AdapterRecord.FILE
    path.write_text(json.dumps(content))
    return AdapterRecord.read(path)


def with_manifest(path: Path, manifest: Any) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_string(MANIFEST_KEY, json.dumps(manifest))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def test_an_export_says_what_the_training_said(tmp_path: Path) -> None:
    """Also of an adapter from before chat and context were kept, in the keys that served files have."""
    said = ModelManifest.of_adapter(record(tmp_path, OLD), "3" * 64).written()
    unknown = dict.fromkeys(("chat", "context_sources", "base_gguf_sha256", "storage"))
    assert said == OLD | unknown | {"adapter_sha256": "3" * 64}
    assert read_header(with_manifest(tmp_path / "a.gguf", said)).manifest.written() == said


def test_a_base_says_only_what_is_known_of_it() -> None:
    said = ModelManifest(base="b", base_sha256="0" * 64, chat=None).written()
    assert said == {"version": 1, "base": "b", "base_sha256": "0" * 64, "chat": None}


@pytest.mark.parametrize("key", ["base", "template_sha256", "decision_ids", "class_prior"])
def test_a_record_that_lacks_a_key_names_it_and_the_remedy(tmp_path: Path, key: str) -> None:
    with pytest.raises(InputError, match=rf"candletune\.json: {key}: .*; run `candletune train` again"):
        record(tmp_path, {name: value for name, value in OLD.items() if name != key})


def test_a_damaged_manifest_names_file_and_key(tmp_path: Path) -> None:
    header = read_header(with_manifest(tmp_path / "a.gguf", OLD | {"base_sha256": 7}))
    with pytest.raises(InputError, match=r"a\.gguf: candletune\.manifest: base_sha256: .*; export the adapter again"):
        _ = header.manifest
    assert read_header(with_manifest(tmp_path / "b.gguf", [1])).manifest == ModelManifest()
    assert read_header(with_manifest(tmp_path / "c.gguf", {"of": "a later version"})).manifest == ModelManifest()
