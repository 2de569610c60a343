"""Whole models as GGUF: the base as it is, and the base with the adapter merged in."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from candletune.artifacts import ModelManifest
from candletune.config import ExportConfig
from candletune.console import Reporter
from candletune.errors import InputError, UsageError
from candletune.files import make_folder, remove_folder
from candletune.gguf.catalogue import put_in_place
from candletune.gguf.header import Header, read_header
from candletune.gguf.metadata import PLAIN_TYPES
from candletune.gguf.model import check_architecture, write_model
from candletune.gguf.peft import Adapter, AdapterRefused, merge_with_peft, read_adapter
from candletune.gguf.quantize import quantize, type_name
from candletune.model_shape import read_shape


def write_base(base: Path, target: Path, number_format: str, facts: ModelManifest, reporter: Reporter) -> None:
    """Write the base; a different older file is kept under another name.

    Args:
        base: Hugging Face folder.
        target: GGUF file.
        number_format: llama.cpp's type of it (`base.serve_type`): F32, F16, BF16, or a quantization.
        facts: what it says of itself: `base` (the configured name), `base_sha256` and `chat`.
        reporter: progress.

    Raises:
        InputError: it cannot be written as GGUF; said before anything is written.
    """
    check_architecture(base)
    staged = target.with_name(f".{target.name}.staged")
    name, manifest = Path(facts.base or "base").name, facts.written()
    write_model(base, staged, number_format=number_format, name=name, manifest=manifest, reporter=reporter)
    put_in_place(staged, target)


def write_base_from(source: Path, target: Path, number_format: str, reporter: Reporter) -> None:
    """Write the base from a GGUF in another type; a different older file is kept under another name.

    Args:
        source: a whole model.
        target: GGUF file.
        number_format: llama.cpp's type of it (`base.serve_type`).
        reporter: progress.

    Raises:
        UsageError: see `rounded_twice`.
        InputError: it is no whole model, or llama.cpp could not write it.
    """
    type_of(source)
    if reason := rounded_twice(read_header(source), number_format):
        raise UsageError(f"{source}: {reason}")
    make_folder(target.parent)
    staged = target.with_name(f".{target.name}.staged")
    with reporter.task(f"write {target.name}", 1) as task:
        quantize(source, staged, number_format)
        task.advance()
    put_in_place(staged, target)


def rounded_twice(source: Header, number_format: str) -> str | None:
    """Why a type cannot be written from a GGUF; None: it can.

    Blocks can be expanded to plain numbers. Rounded to blocks of another type they would lose a second time, by a
    model that nobody meant.
    """
    have = type_name(source.fields.get("general.file_type"))
    if number_format.upper() in PLAIN_TYPES or have in PLAIN_TYPES:
        return None
    return (
        f"is {have or 'of an unknown type'}, from which base.serve_type={number_format} would round it a second time; "
        "leave base.serve_type out to serve the file as it is, or set it to F16 or F32 to expand it"
    )


def type_of(path: Path) -> str:
    """llama.cpp's name of a whole model's type, such as `Q4_K_M`; empty where the file does not say.

    Raises:
        InputError: it is no GGUF, or an adapter.
    """
    header = read_header(path)
    if header.is_adapter:
        raise InputError(f"{path}: is a LoRA adapter, not a base model; set base.gguf to the base model's GGUF")
    return type_name(header.fields.get("general.file_type"))


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
    checkpoint = target.with_name(f".{target.name}.checkpoint")
    try:
        if plain_lora is None:
            merge_with_peft(base, adapter, checkpoint)
        write_model(
            checkpoint if plain_lora is None else base,
            target,
            number_format=config.quantize.upper(),
            name="custom-trading-merged",
            manifest=manifest,
            reporter=reporter,
            adapter=plain_lora,
        )
    finally:
        remove_folder(checkpoint)
