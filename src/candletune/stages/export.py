"""The `export` stage: adapter folder to GGUF, next to a base GGUF when none is configured."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from candletune.config import Config
from candletune.console import Reporter
from candletune.files import make_folder, move, read_json, remove, remove_folder
from candletune.gguf.adapter import write_adapter
from candletune.gguf.catalogue import keep_older, record, versioned_name
from candletune.gguf.model import write_model
from candletune.gguf.peft import Adapter, AdapterRefused, merge_with_peft, read_adapter
from candletune.gguf.quantize import quantize
from candletune.hashes import sha256_path
from candletune.model_shape import ModelShape, read_shape
from candletune.runs import RunFolder
from candletune.stages.runner import Stage

MANIFEST_KEYS = (
    "base",
    "base_sha256",
    "template_sha256",
    "dataset_sha256",
    "train_end",
    "class_prior",
    "natural_prior",
    "decision_ids",
    "context_sources",
)


def export(config: Config, run: RunFolder, reporter: Reporter) -> dict[str, Any]:
    """The stage's work; returns the summary."""
    from candletune.base.find import resolve_base

    start = time.monotonic()
    base = resolve_base(config, reporter)
    shape = read_shape(base.path)
    folder = run.adapter
    # Adapters of earlier versions do not say which context their training had.
    trained = {"context_sources": None} | read_json(folder / "candletune.json")
    manifest = {"version": 1, **{key: trained[key] for key in MANIFEST_KEYS}, "adapter_sha256": sha256_path(folder)}
    gguf_folder = run.gguf
    make_folder(gguf_folder)
    if config.base.gguf is None:
        _write_base(config, base.path, shape, base.name, base.sha256, run.base_gguf, reporter)
    kind, why = config.export.kind, ""
    if kind == "adapter":
        try:
            adapter = read_adapter(folder, shape)
        except AdapterRefused as refused:
            if not config.export.fallback:
                raise
            kind, why = "merged", str(refused)
            reporter.warn(f"{refused}; merging into the base instead (export.fallback)")
    target = run.exported(kind == "merged")
    staged = target.with_name(f".{target.name}.staged")
    if kind == "adapter":
        write_adapter(
            adapter,
            shape,
            staged,
            number_format=config.export.adapter_type,
            manifest=manifest,
            name="custom-trading-lora",
        )
    else:
        _write_merged(config, base.path, shape, folder, staged, manifest, reporter)
    older = keep_older(target, staged)
    move(staged, target)
    digest = sha256_path(target)
    record(
        gguf_folder,
        {
            "file": target.name,
            "sha256": digest,
            "kind": kind,
            "format": config.export.adapter_type if kind == "adapter" else config.export.quantize,
            "bytes": target.stat().st_size,
            "exported": datetime.now(UTC).isoformat(timespec="seconds"),
            "manifest": manifest,
        },
    )
    size, name = target.stat().st_size / 2**20, versioned_name(target)
    return {
        "headline": f"{kind} GGUF {target.name}, {size:.2f} MiB, named {name}"
        + (f"; the older version is {older.name}" if older else ""),
        "kind": kind,
        "name": name,
        "file": f"gguf/{target.name}",
        "sha256": digest,
        "bytes": target.stat().st_size,
        "fallback_reason": why,
        "seconds": round(time.monotonic() - start, 3),
    }


def _write_base(
    config: Config, base: Path, shape: ModelShape, name: str, base_sha256: str, target: Path, reporter: Reporter
) -> None:
    staged = target.with_name(f".{target.name}.staged")
    write_model(
        base,
        shape,
        staged,
        number_format=config.export.base_type,
        name=Path(name).name,
        manifest={"version": 1, "base": name, "base_sha256": base_sha256},
        reporter=reporter,
    )
    keep_older(target, staged)
    move(staged, target)


def _write_merged(
    config: Config,
    base: Path,
    shape: ModelShape,
    folder: Path,
    target: Path,
    manifest: Mapping[str, Any],
    reporter: Reporter,
) -> None:
    try:
        adapter: Adapter | None = read_adapter(folder, shape)
    except AdapterRefused:
        adapter = None  # DoRA and the like: PEFT merges it, with the whole model in memory
    plain = target.with_name(f".{target.name}.f16")
    wanted = config.export.quantize.upper()
    number_format = wanted if wanted in ("F32", "F16", "BF16") else "F16"
    merged = target.with_name(f".{target.name}.checkpoint")
    try:
        if adapter is None:
            merge_with_peft(base, folder, merged)
        write_model(
            merged if adapter is None else base,
            shape,
            plain,
            number_format=number_format,
            name="custom-trading-merged",
            manifest=manifest,
            reporter=reporter,
            adapter=adapter,
        )
        if wanted == number_format:
            move(plain, target)
        else:
            quantize(plain, target, wanted)
    finally:
        remove(plain)
        remove_folder(merged)


def _inputs(config: Config, run: RunFolder) -> Mapping[str, Path]:
    found = {"adapter": run.adapter}
    folder = Path(config.base.model).expanduser()
    return (
        found
        | ({"base.model": folder} if folder.is_dir() else {})
        | ({"base.gguf": config.base.gguf} if config.base.gguf else {})
    )


STAGE = Stage(
    name="export",
    title="Write the GGUF",
    tables=("export", "base"),
    inputs=_inputs,
    outputs=("gguf/custom-trading-lora.gguf", "gguf/custom-trading-merged.gguf", "gguf/base.gguf"),
    work=export,
)
