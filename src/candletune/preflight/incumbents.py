"""Checks of what a candidate is compared with: the adapter in use today, who was promoted, and baselines."""

from collections.abc import Iterator

from candletune.config import Config
from candletune.decide.adapters import adapter_facts, check_template
from candletune.evaluation.beaten import check_names
from candletune.gguf.header import read_header
from candletune.live.models import active_model, read_state
from candletune.preflight.findings import Finding, check
from candletune.prompts.template import load_template


@check("incumbent", "replay")
def incumbent(config: Config) -> Iterator[Finding]:
    """The adapter in use today: its header, and the template it was made with."""
    path = config.incumbent.adapter
    if path is None:
        return
    if not path.is_file():
        yield Finding("problem", "incumbent", f"{path}: no such file; correct incumbent.adapter")
        return
    header = read_header(path)
    if not header.is_adapter:
        text = f"{path}: is a whole model, not a LoRA adapter; set incumbent.adapter to a LoRA GGUF"
        yield Finding("problem", "incumbent", text)
        return
    check_template(config, path, adapter_facts(path), load_template(config.prompt.template).sha256)
    yield Finding("ok", "incumbent", f"{path}")


@check("evaluate.must_beat", "evaluate")
def must_beat(config: Config) -> Iterator[Finding]:
    """Baselines that a verdict must ask about: that there are such."""
    check_names(config.evaluate)
    if config.evaluate.must_beat:
        yield Finding("ok", "evaluate.must_beat", ", ".join(config.evaluate.must_beat))


@check("live.state", "replay")
def live_state(config: Config) -> Iterator[Finding]:
    """Who is active, when something was promoted; a lost state file is refused."""
    if read_state(config) is not None:
        yield Finding("ok", "active", f"{active_model(config).name}, from {config.live.state}")
