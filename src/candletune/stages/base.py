"""The `base` stage: the one GGUF that is trained over, certified, replayed and served.

With `base.gguf` (or a packaged base) that file is it, and nothing is written; unless `base.serve_type` asks for another
type of it. Else it is written once from `base.model`, tensor by tensor, in `base.serve_type`.
"""

import time
from collections.abc import Mapping
from pathlib import Path

from candletune.artifacts import BaseSummary, ModelManifest
from candletune.base.find import given_gguf, resolve_source, served_gguf, source_files
from candletune.base.quiet import quiet
from candletune.config import Config
from candletune.console import Reporter
from candletune.gguf.whole_models import type_of, write_base, write_base_from
from candletune.hashes import sha256_path
from candletune.runs import RunFolder
from candletune.stages.runner import Stage


@quiet()
def base(config: Config, run: RunFolder, reporter: Reporter) -> BaseSummary:
    """The stage's work; returns the summary."""
    served, given = served_gguf(config), given_gguf(config)
    if served is not None:
        return _found(served)
    start = time.monotonic()
    kind = config.base.written_type
    if given is not None:
        name = given.name
        write_base_from(given, run.base_gguf, kind, reporter)
    else:
        name = _write_from_source(config, run, kind, reporter)
    size = run.base_gguf.stat().st_size
    return BaseSummary(
        headline=f"{name} as {kind}, {_shown(size)}: {run.base_gguf.name} is trained over and served",
        file=str(run.base_gguf.relative_to(run.path).as_posix()),
        sha256=sha256_path(run.base_gguf),
        bytes=size,
        type=kind,
        written=True,
        seconds=round(time.monotonic() - start, 3),
    )


def _write_from_source(config: Config, run: RunFolder, kind: str, reporter: Reporter) -> str:
    """Write it from `base.model`; its name."""
    from candletune.base.tokenizer import load_tokenizer

    source = resolve_source(config, reporter)
    chat = load_tokenizer(source.path).chat(config.base.chat).texts
    facts = ModelManifest(base=source.name, base_sha256=source.sha256, chat=chat)
    write_base(source.path, run.base_gguf, kind, facts, reporter)
    return source.name


def _found(path: Path) -> BaseSummary:
    """What is said of a GGUF that is there.

    Raises:
        InputError: it is no whole model.
    """
    size, kind = path.stat().st_size, type_of(path)
    return BaseSummary(
        headline=f"{path.name}, {f'{kind}, ' if kind else ''}{_shown(size)}: nothing to write",
        file=str(path),
        sha256=sha256_path(path),
        bytes=size,
        type=kind,
        written=False,
    )


def _shown(size: int) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


def _inputs(config: Config, run: RunFolder) -> Mapping[str, Path]:
    given = given_gguf(config)
    return source_files(config) if given is None else {"base.gguf": given}


STAGE = Stage(
    name="base",
    title="Write the base GGUF",
    tables=("base",),
    inputs=_inputs,
    outputs=("gguf/base.gguf",),
    work=base,
    summary=BaseSummary,
)
