"""Whole models as GGUF: the base as it is, and the base with the adapter merged in."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from candletune.artifacts import ModelManifest
from candletune.config import ExportConfig
from candletune.console import Reporter
from candletune.files import move, remove, remove_folder
from candletune.gguf.catalogue import put_in_place
from candletune.gguf.model import write_model
from candletune.gguf.peft import Adapter, AdapterRefused, merge_with_peft, read_adapter
from candletune.gguf.quantize import quantize
from candletune.model_shape import read_shape

PLAIN_FORMATS = ("F32", "F16", "BF16")


def write_base(base: Path, target: Path, number_format: str, facts: ModelManifest, reporter: Reporter) -> None:
    """Write the base; a different older file is kept under another name.

    Args:
        base: Hugging Face folder.
        target: GGUF file.
        number_format: F32, F16 or BF16.
        facts: what it says of itself: `base` (the configured name), `base_sha256` and `chat`.
        reporter: progress.

    Raises:
        InputError: it cannot be written as GGUF.
    """
    staged = target.with_name(f".{target.name}.staged")
    name, manifest = Path(facts.base or "base").name, facts.written()
    write_model(base, staged, number_format=number_format, name=name, manifest=manifest, reporter=reporter)
    put_in_place(staged, target)


def write_merged(
    base: Path, adapter: Path, target: Path, config: ExportConfig, manifest: Mapping[str, Any], reporter: Reporter
) -> None:
    """Merge the adapter into the base and write it in the wanted type; no older file is kept.

    Args:
        base: Hugging Face folder.
        adapter: PEFT folder; of a kind that is no plain LoRA too, which PEFT merges with the whole model in memory.
        target: GGUF file.
        config: `quantize` names the type.
        manifest: written as JSON under `candletune.manifest`.
        reporter: progress.

    Raises:
        InputError: it cannot be merged or written.
        UsageError: no such type.
    """
    try:
        plain_lora: Adapter | None = read_adapter(adapter, read_shape(base))
    except AdapterRefused:
        plain_lora = None
    plain = target.with_name(f".{target.name}.f16")
    wanted = config.quantize.upper()
    number_format = wanted if wanted in PLAIN_FORMATS else "F16"
    checkpoint = target.with_name(f".{target.name}.checkpoint")
    try:
        if plain_lora is None:
            merge_with_peft(base, adapter, checkpoint)
        write_model(
            checkpoint if plain_lora is None else base,
            plain,
            number_format=number_format,
            name="custom-trading-merged",
            manifest=manifest,
            reporter=reporter,
            adapter=plain_lora,
        )
        if wanted == number_format:
            move(plain, target)
        else:
            quantize(plain, target, wanted)
    finally:
        remove(plain)
        remove_folder(checkpoint)
