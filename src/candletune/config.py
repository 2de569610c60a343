"""One TOML file -> one frozen, validated model. Relative paths are relative to the file (see `config_source`)."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from candletune.config_pairs import is_pattern, matching_pairs
from candletune.config_serving import (
    SERVER_KEYS,
    AdapterConfig,
    EngineConfig,
    EvaluateConfig,
    LiveConfig,
    NotifyConfig,
    ReplayConfig,
    RetrainConfig,
    ReviewConfig,
)
from candletune.config_source import explain, gather
from candletune.config_sweep import BoostingConfig, SweepConfig
from candletune.config_tables import (
    BaseConfig,
    DataConfig,
    DatasetConfig,
    ExportConfig,
    HeadlinesConfig,
    LabelsConfig,
    PromptConfig,
    RunConfig,
    SimulateConfig,
    TrainConfig,
    VerifyConfig,
)
from candletune.config_types import Table, is_loopback, timeframe_minutes
from candletune.config_walk import WalkConfig
from candletune.errors import UsageError

__all__ = [
    "SERVER_KEYS",
    "AdapterConfig",
    "BaseConfig",
    "BoostingConfig",
    "Config",
    "DataConfig",
    "DatasetConfig",
    "EngineConfig",
    "EvaluateConfig",
    "ExportConfig",
    "HeadlinesConfig",
    "LabelsConfig",
    "LiveConfig",
    "NotifyConfig",
    "PromptConfig",
    "ReplayConfig",
    "RetrainConfig",
    "ReviewConfig",
    "RunConfig",
    "SimulateConfig",
    "SweepConfig",
    "Table",
    "TrainConfig",
    "VerifyConfig",
    "WalkConfig",
    "load_config",
    "timeframe_minutes",
]


class Config(Table):
    """The whole configuration."""

    seed: int = Field(17, ge=0, lt=2**32, description="seed of every random choice")
    run: RunConfig = RunConfig()
    data: DataConfig = DataConfig()
    simulate: SimulateConfig = SimulateConfig()
    headlines: HeadlinesConfig = HeadlinesConfig()
    labels: LabelsConfig = LabelsConfig()
    prompt: PromptConfig = PromptConfig()
    dataset: DatasetConfig = DatasetConfig()
    base: BaseConfig = BaseConfig()
    train: TrainConfig = TrainConfig()
    export: ExportConfig = ExportConfig()
    verify: VerifyConfig = VerifyConfig()
    engine: EngineConfig = EngineConfig()
    incumbent: AdapterConfig = AdapterConfig()
    replay: ReplayConfig = ReplayConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    live: LiveConfig = LiveConfig()
    review: ReviewConfig = ReviewConfig()
    retrain: RetrainConfig = RetrainConfig()
    walk: WalkConfig = WalkConfig()
    sweep: SweepConfig = SweepConfig()
    boosting: BoostingConfig = BoostingConfig()
    notify: NotifyConfig = NotifyConfig()

    # Plain properties over a cached parse: pydantic's `model_copy` would carry a `cached_property` over to a copy
    # with another timeframe.
    @property
    def candle(self) -> timedelta:
        """Time from one decision to the next: one candle of `data.timeframe`."""
        return self.data.candle

    @property
    def horizon(self) -> timedelta:
        """Time from a decision to its outcome: `labels.horizon` candles."""
        return self.candle * self.labels.horizon

    @property
    def timeframes(self) -> tuple[str, ...]:
        """Candle lengths whose decisions become examples, the shortest (`data.timeframe`) first."""
        return tuple(sorted(self.dataset.timeframes, key=timeframe_minutes)) or (self.data.timeframe,)

    @model_validator(mode="after")
    def _timeframes_fit(self) -> "Config":
        given = self.dataset.timeframes
        if not given:
            return self
        base = timeframe_minutes(self.data.timeframe)
        if self.data.timeframe not in given or len(set(given)) < len(given):
            raise ValueError(
                f"dataset.timeframes: name each timeframe once, data.timeframe ({self.data.timeframe}) among them"
            )
        for timeframe in given:
            minutes = timeframe_minutes(timeframe)
            if minutes < base or minutes % base or 1440 % minutes:
                raise ValueError(
                    f"dataset.timeframes: {timeframe} is not a multiple of {self.data.timeframe} that divides a day"
                )
            if self.labels.horizon * base % minutes:
                raise ValueError(
                    f"dataset.timeframes: {timeframe} does not divide the horizon of {self.labels.horizon} candles of "
                    f"{self.data.timeframe}; change labels.horizon"
                )
            if self.labels.method != "fixed" and self.labels.volatility_window * base < 2 * minutes:
                raise ValueError(
                    f"labels.volatility_window: {self.labels.volatility_window} candles of {self.data.timeframe} are "
                    f"fewer than two of {timeframe} (dataset.timeframes)"
                )
            for other in map(timeframe_minutes, self.data.context_timeframes):
                if other > minutes and other % minutes:
                    raise ValueError(
                        f"data.context_timeframes: every one longer than {timeframe} (dataset.timeframes) must be a "
                        "multiple of it"
                    )
        return self

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        if self.simulate.enabled and any(map(is_pattern, self.data.pairs)):
            raise ValueError("data.pairs: a pattern names candle files; a simulated market needs the pairs' names")
        base = timeframe_minutes(self.data.timeframe)
        for other in self.data.context_timeframes:
            minutes = timeframe_minutes(other)
            if minutes <= base or minutes % base:
                raise ValueError(
                    f"data.context_timeframes: {other} is not a longer multiple of data.timeframe, "
                    f"{self.data.timeframe}; leave it out of data.context_timeframes"
                )
        if self.train.batch_size > self.train.effective_batch:
            raise ValueError("train.batch_size: larger than train.effective_batch")
        self._check_base()
        for url in self.engine.url:
            if not self.engine.remote and not is_loopback(url):
                raise ValueError(
                    f"engine.url: {url} is another host; set engine.remote=true to let prompts leave this machine"
                )
        if self.train.soft_target and (self.labels.method != "fixed" or self.labels.shuffle):
            raise ValueError(
                "train.soft_target: made from the realised return and labels.threshold, so it needs "
                "labels.method=fixed and labels.shuffle=false; set it to 0"
            )
        return self

    @property
    def builds_tiny(self) -> bool:
        """Whether the base is the tiny one, which is built on first use."""
        return self.base.model == "tiny" and (
            self.base.gguf is None or self.train.quantization not in ("auto", "gguf") or self.export.kind == "merged"
        )

    def _check_base(self) -> None:
        """What a base as GGUF cannot do."""
        if not self.base.model and self.base.gguf is None:
            raise ValueError("base.model: empty; name a model or a folder, or set base.gguf")
        if self.base.is_gguf and self.train.quantization in ("nf4", "fp4"):
            raise ValueError(
                f"train.quantization: {self.train.quantization} quantizes a base.model in safetensors; over a GGUF "
                "alone set it to auto or none"
            )
        if self.train.backend == "unsloth" and (self.base.is_gguf or self.train.quantization == "gguf"):
            raise ValueError(
                "train.backend: unsloth cannot train over a GGUF; set it to auto, or base.model to a folder and "
                "train.quantization to nf4"
            )
        if self.base.is_gguf and self.export.kind == "merged":
            raise ValueError(
                "export.kind: merged is written from a base.model in safetensors; over a GGUF alone set it to adapter"
            )


def load_config(
    path: Path | None, assignments: Sequence[str] = (), overrides: Mapping[str, Any] | None = None
) -> Config:
    """Read a TOML file (none: only defaults), apply `--set` assignments and a command's own options, validate.

    Patterns of `data.pairs` become the pairs whose candle files are there.
    Paths become absolute: those of the file and the defaults start at the file's folder (without a file: at the
    working folder), those of assignments and overrides at the working folder.

    Raises:
        UsageError: the file is missing or broken, or a key or value is wrong; names file (or assignment) and key.
    """
    gathered = gather(Config, path, assignments, overrides or {})
    try:
        config = Config.model_validate(gathered.values)
    except ValidationError as error:
        raise UsageError(explain(error, gathered, Config)) from None
    data = config.data
    pairs = matching_pairs(data.pairs, data.folder, data.timeframe)
    return config.model_copy(update={"data": data.model_copy(update={"pairs": pairs})})
