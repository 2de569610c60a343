"""The base GGUF that all trials of a sweep train over: written once."""

from candletune.base.find import served_gguf
from candletune.config import Config
from candletune.console import Reporter
from candletune.runs import RunFolder
from candletune.stages import stage
from candletune.stages.runner import run_stage

FOLDER = "base"


def with_shared_base(config: Config, home: RunFolder, reporter: Reporter) -> Config:
    """The base GGUF is written once, unless trials differ in it or there is one."""
    if config.sweep.model != "llm" or any(key.startswith("base.") for key in config.sweep.settings):
        return config
    if served_gguf(config) is not None:
        return config
    run = RunFolder(home.file(FOLDER))
    own = config.model_copy(update={"run": config.run.model_copy(update={"folder": run.path})})
    with run.lock():
        run_stage(stage("base"), own, run, reporter)
    return config.model_copy(
        update={"base": config.base.model_copy(update={"gguf": run.base_gguf, "serve_type": None})}
    )
