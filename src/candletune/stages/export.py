"""The `export` stage: adapter folder to a LoRA GGUF, or with `base.model` to a merged one."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from candletune.artifacts import AdapterRecord, ExportSummary, ModelManifest
from candletune.base.find import base_files, resolve_base, resolve_source, source_files
from candletune.config import Config
from candletune.console import Reporter
from candletune.gguf.adapter import write_adapter
from candletune.gguf.catalogue import CatalogueEntry, put_in_place, record, versioned_name
from candletune.gguf.peft import Adapter, AdapterRefused, read_adapter
from candletune.gguf.whole_models import write_merged
from candletune.hashes import sha256_path
from candletune.model_shape import ModelShape
from candletune.runs import RunFolder
from candletune.stages.runner import Stage


def export(config: Config, run: RunFolder, reporter: Reporter) -> ExportSummary:
    """The stage's work; returns the summary."""
    start = time.monotonic()
    folder = run.adapter
    trained = AdapterRecord.read(folder / AdapterRecord.FILE)
    manifest = ModelManifest.of_adapter(trained, sha256_path(folder)).written()
    shape = resolve_base(config, reporter).shape
    adapter, why = _adapter_or_reason(config, folder, shape, reporter)
    kind: Literal["merged", "adapter"] = "merged" if adapter is None else "adapter"
    target = run.exported(kind == "merged")
    staged = target.with_name(f".{target.name}.staged")
    if adapter is not None:
        number_format = config.export.adapter_type
        write_adapter(
            adapter, shape, staged, number_format=number_format, manifest=manifest, name="custom-trading-lora"
        )
    else:
        write_merged(resolve_source(config, reporter).path, folder, staged, config.export, manifest, reporter)
    older = put_in_place(staged, target)
    digest = sha256_path(target)
    record(
        run.gguf,
        CatalogueEntry(
            file=target.name,
            sha256=digest,
            kind=kind,
            format=config.export.adapter_type if kind == "adapter" else config.export.quantize,
            bytes=target.stat().st_size,
            exported=datetime.now(UTC).isoformat(timespec="seconds"),
            manifest=manifest,
        ),
    )
    size, name = target.stat().st_size / 2**20, versioned_name(target)
    return ExportSummary(
        headline=f"{kind} GGUF {target.name}, {size:.2f} MiB, named {name}"
        + (f"; the older version is {older.name}" if older else ""),
        kind=kind,
        name=name,
        file=f"gguf/{target.name}",
        sha256=digest,
        bytes=target.stat().st_size,
        fallback_reason=why,
        seconds=round(time.monotonic() - start, 3),
    )


def _adapter_or_reason(
    config: Config, folder: Path, shape: ModelShape, reporter: Reporter
) -> tuple[Adapter | None, str]:
    """The adapter to write as LoRA GGUF; None (and, with `export.fallback`, why) where a merged model is written."""
    if config.export.kind == "merged":
        return None, ""
    try:
        return read_adapter(folder, shape), ""
    except AdapterRefused as refused:
        if not config.export.fallback or config.base.is_gguf:
            raise
        reporter.warn(f"{refused}; merging into the base instead (export.fallback)")
        return None, str(refused)


def _inputs(config: Config, run: RunFolder) -> Mapping[str, Path]:
    merges = config.export.kind == "merged" or (config.export.fallback and not config.base.is_gguf)
    return {"adapter": run.adapter} | base_files(config) | (source_files(config) if merges else {})


STAGE = Stage(
    name="export",
    title="Write the GGUF",
    tables=("export", "base"),
    inputs=_inputs,
    outputs=("gguf/custom-trading-lora.gguf", "gguf/custom-trading-merged.gguf"),
    work=export,
    summary=ExportSummary,
)
