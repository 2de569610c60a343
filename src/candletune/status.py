"""Where a run stands, for the terminal: stages, adapters and certificates, the verdict, and who is active."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from candletune.artifacts import Certificate
from candletune.config import Config
from candletune.errors import CandletuneError
from candletune.files import read_json
from candletune.hashes import sha256_path
from candletune.journal import Role
from candletune.live.models import active_model
from candletune.report.text import moment, number, percent, short_hash
from candletune.runs import RunFolder
from candletune.stages import STAGES
from candletune.stages.progress import read_progress

if TYPE_CHECKING:
    from rich.console import Console


def status_of(config: Config, run: RunFolder) -> dict[str, Any]:
    """JSON-able facts; a part that has not happened yet is None, a part that is broken says so."""
    stages = run.manifest()["stages"]
    return {
        "run": str(run.path),
        "running": _running(run),
        "stages": {name: _stage(stages.get(name)) for name in STAGES},
        "adapters": _adapters(run),
        "verification": _verification(run),
        "verdict": _read(run.verdict, ("verdict", "reason", "forced")),
        "shadow_verdict": _read(run.shadow_verdict, ("verdict", "reason", "forced")),
        "active": _active(config),
        "journal": _journal(config),
    }


def _running(run: RunFolder) -> dict[str, Any] | None:
    """The stage at work, how far it is, and whether its process still lives."""
    progress = read_progress(run)
    if progress is None:
        return None
    facts = progress.model_dump(mode="json", exclude={"version", "process_started"})
    return facts | {"alive": progress.alive, "text": progress.describe()}


def _stage(entry: dict[str, Any] | None) -> dict[str, Any] | None:
    if entry is None:
        return None
    return {
        "finished": entry["finished"],
        "seconds": entry["seconds"],
        "headline": entry["summary"].get("headline", ""),
    }


def _read(path: Path, keys: tuple[str, ...]) -> dict[str, Any] | None:
    if not path.exists():
        return None
    value = read_json(path)
    return {key: value.get(key) for key in keys}


def _adapters(run: RunFolder) -> list[dict[str, Any]]:
    """Every GGUF of the run, with its size and hash."""
    return [
        {"file": str(path), "bytes": path.stat().st_size, "sha256": sha256_path(path)}
        for path in sorted(run.gguf.glob("*.gguf"))
    ]


def _verification(run: RunFolder) -> dict[str, Any] | None:
    entry = run.manifest()["stages"].get("verify")
    certificate = Certificate.read_if_there(run.certificate)
    if entry is None or certificate is None:
        return None
    return {
        "passed": certificate.passed,
        "findings": [f"{finding.name} {finding.value:g}" for finding in certificate.findings],
        "finished": entry["finished"],
    }


def _active(config: Config) -> dict[str, Any]:
    """Which adapter acts now; before the first promotion it is the configured incumbent."""
    source = str(config.live.state) if config.live.state.exists() else "configuration"
    try:
        model = active_model(config)
    except CandletuneError as error:
        return {"source": source, "problem": str(error)}
    path = None if model.path is None else str(model.path)
    return {"source": source, "name": model.name, "path": path, "sha256": model.sha256, "kind": model.kind}


def _journal(config: Config) -> dict[str, Any] | None:
    from candletune.evaluation.live import live_view

    try:
        view = live_view(config)
    except CandletuneError as error:
        return {"path": str(config.live.journal), "problem": str(error)}
    if not view.exists:
        return None
    comparison = view.comparison
    return {
        "path": str(view.path),
        "rows": view.rows,
        "last": view.last.isoformat() if view.last else None,
        "agreement": comparison.agreement if comparison else None,
        "accuracy": {side: model.accuracy for side, model in view.sides.items()},
        "effective": comparison.effective if comparison else 0.0,
        "needed": view.needed,
        "days_left": view.days_left,
    }


def print_status(found: dict[str, Any], console: "Console | None" = None) -> None:
    """Print what `status_of` found, on standard output."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = console or Console(highlight=False)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", title_justify="left")
    for column in ("stage", "finished (UTC)", "seconds", "result"):
        table.add_column(column, justify="right" if column == "seconds" else "left", overflow="fold")
    running = found["running"]
    for name, stage in found["stages"].items():
        if running is not None and running["stage"] == name and running["alive"]:
            table.add_row(name, "[bold]running[/]", "", escape(running["text"]))
        elif stage is None:
            table.add_row(name, "[dim]not yet[/]", "", "")
        else:
            row = (name, moment(stage["finished"]), number(stage["seconds"], 1), escape(stage["headline"]))
            table.add_row(*row)
    console.print(f"[bold]{escape(found['run'])}[/]")
    console.print(table)
    for label, value in _lines(found):
        console.print(f"[dim]{label:<13}[/] {escape(value)}", soft_wrap=True)


def _lines(found: dict[str, Any]) -> list[tuple[str, str]]:
    """The facts below the table, one line each."""
    lines = []
    if (running := found["running"]) is not None and not running["alive"]:
        ended = f"{running['stage']} was stopped about {moment(running['updated'])} UTC ({running['text']})"
        lines.append(("stopped", f"{ended}; run the same command again to go on"))
    lines += [
        (
            "base" if Path(item["file"]).name == "base.gguf" else "adapter",
            f"{item['file']}  {item['bytes'] / 1e6:.1f} MB  {short_hash(item['sha256'])}",
        )
        for item in found["adapters"]
    ]
    if (check := found["verification"]) is not None:
        result = "passed" if check["passed"] else "FAILED"
        lines.append(("certificate", ", ".join([result, *check["findings"], f"{moment(check['finished'])} UTC"])))
    for label, key in (("verdict", "verdict"), ("shadow says", "shadow_verdict")):
        if (verdict := found[key]) is not None:
            forced = " (forced: part of the rows was seen in training)" if verdict["forced"] else ""
            lines.append((label, f"{verdict['verdict']}: {verdict['reason']}{forced}"))
    lines.append(("acts now", _who(found["active"])))
    if (journal := found["journal"]) is not None:
        lines.append(("shadow", _shadow(journal)))
    return lines


def _who(active: dict[str, Any]) -> str:
    if "problem" in active:
        return f"unknown: {active['problem']}"
    name = f"{active['name']} {short_hash(active['sha256'])}" if active["sha256"] else "the bare base (no adapter)"
    return f"{name}, from {active['source']}"


def _shadow(journal: dict[str, Any]) -> str:
    if "problem" in journal:
        return f"unreadable: {journal['problem']}"
    accuracy = ", ".join(f"{Role.of(side)} {percent(rate)}" for side, rate in journal["accuracy"].items())
    left = f", about {number(journal['days_left'], 1)} more days" if journal["days_left"] > 0 else ""
    return (
        f"{number(journal['rows'])} cycles to {moment(journal['last'])} UTC; right so far: {accuracy}; agreement "
        f"{percent(journal['agreement'])}; evidence {number(journal['effective'], 0)} of {journal['needed']}{left}"
    )
