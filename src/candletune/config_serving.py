"""The tables of the configuration for what uses a model: inference, replay, verdict and live work."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr

from candletune.config_types import Positive, ServerUrl, Share, Table, UtcTime

SERVER_KEYS = ("url", "remote", "requests", "timeout", "patience")
"""Keys of `engine` that say where an answer comes from; what it is they leave alone, but for the rounding."""


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class EngineConfig(Table):
    """Inference with llama.cpp: in this process, or on servers (`url`)."""

    context: Positive = Field(2048, description="context length in tokens")
    threads: int = Field(0, ge=0, le=1024, description="CPU threads; 0: all physical cores")
    gpu_layers: int = Field(
        -1, ge=-1, le=2**31 - 1, description="layers on the GPU when llama.cpp was built for one; -1: as many as fit"
    )
    max_tokens: Positive = Field(96, description="longest answer")
    temperature: float = Field(0.0, ge=0, description="0: greedy")
    grammar: bool = Field(True, description="generate under a grammar, so that the format always holds")
    batch: int = Field(
        1, ge=0, le=64, description="prompts a pass of llama.cpp; 0: 16 where it was built for a GPU, else 1"
    )
    url: Annotated[tuple[ServerUrl, ...], BeforeValidator(_listed)] = Field(
        (), description="llama.cpp servers that answer in place of this process, such as http://127.0.0.1:8080"
    )
    remote: bool = Field(False, description="allow an `url` on another host: prompts leave this machine")
    requests: Annotated[int, Field(ge=1, le=1024)] = Field(16, description="requests at a time, over all servers")
    timeout: float = Field(300.0, gt=0, le=86_400, description="longest seconds for one answer of a server")
    patience: float = Field(
        300.0, ge=0, le=86_400, description="seconds for which a server that went away is asked again"
    )


class AdapterConfig(Table):
    """The adapter in use today."""

    adapter: Path | None = Field(None, description="the incumbent's LoRA GGUF; none: the bare base is the incumbent")
    name: str = Field("", description="how the report names it; none: the file's name")


class ReplayConfig(Table):
    """Both adapters over candles the candidate never saw."""

    start: UtcTime = Field(None, description="first decision time; none: dataset.test_start")
    end: UtcTime = Field(None, description="last decision time (exclusive); none: the end of the candles")
    stride: Positive = Field(1, description="candles between decision times")
    limit: int = Field(0, ge=0, description="decision times a ticker at most, evenly spread; 0: all")
    reasons: int = Field(50, ge=0, description="decision times for which reasons are generated too")
    copies: Annotated[int, Field(ge=0, le=64)] = Field(
        1,
        description="copies of a small base that a CPU asks side by side, each with engine.threads (0: its share of "
        "all); 0: one a core",
    )
    engine: Literal["auto", "llama.cpp", "torch"] = Field(
        "auto", description="what decides; auto: torch on a GPU that holds the base, held against llama.cpp"
    )
    force: bool = Field(False, description="allow rows the training saw; marks every row and the verdict")
    ray: str = Field(
        "", description="spread decisions over a Ray cluster: its address, or auto (a running one, else this machine)"
    )


class EvaluateConfig(Table):
    """Metrics, statistics and the decision rule."""

    journal: Path | None = Field(None, description="journal to judge, such as a shadow test's; none: the replay's")
    start: UtcTime = Field(None, description="rows before this are left out; none: all count")
    move: float = Field(0.01, gt=0, description="move that makes BUY or SELL correct (0.01 = 1 %)")
    min_gain: float = Field(0.05, description="accuracy gain on BUY/SELL needed to promote (absolute)")
    max_flip_increase: float = Field(0.10, ge=0, description="relative flip-rate increase allowed")
    max_class_share: Share = Field(0.90, description="a class above this share is a systematic failure")
    max_invalid: Share = Field(0.05, description="share of invalid answers allowed")
    min_coverage: Share = Field(0.90, description="share of rows both models answered")
    min_effective: Positive = Field(50, description="effective (non-overlapping) samples needed")
    min_reviewed: Positive = Field(40, description="reasons a model that people must have reviewed for it to count")
    confidence: Share = Field(0.95, description="level of every interval")
    resamples: Positive = Field(2000, description="bootstrap resamples")
    fee: float = Field(0.0005, ge=0, description="fee and slippage a side (0.0005 = 5 basis points)")
    ledger: Path | None = Field(
        None, description="every verdict, by the candles it was asked of; none: ledger.jsonl beside live.state"
    )
    funding: float = Field(0.0001, description="funding a long position pays every 8 hours, a short one receives")
    planned_days: float = Field(365, gt=0, description="length of a test for which its bounds are closest; set before")
    criteria: Literal["full", "plan"] = Field("full", description="`plan` applies the plan's three criteria alone")
    baselines: bool = Field(True, description="fit the baselines too")
    must_beat: tuple[str, ...] = Field(
        (), description="baselines that the candidate must clearly beat, such as `gradient boosting`; a criterion each"
    )


class LiveConfig(Table):
    """Signal, shadow loop and state."""

    state: Path = Field(
        Path("live/active.json"), description="which adapter is active; changed by promote and rollback"
    )
    journal: Path = Field(Path("live/ab_test_log.jsonl"), description="the append-only A/B log")
    metrics: Path | None = Field(
        None, description="file (`.prom`) for counts of faults of `shadow`, for node_exporter's textfile collector"
    )
    poll_seconds: Positive = Field(20, description="seconds between two looks at the candle files")
    candidate_seconds: float = Field(
        0, ge=0, description="longest time for one answer of the candidate; 0: until the next candle has closed"
    )
    auto_rollback: bool = Field(
        False, description="roll back when a promoted model got worse and the one that it replaced did better since"
    )
    false_alarms: Share = Field(0.05, description="chance of a false alarm of the drift monitor within a year")
    any_template: bool = Field(False, description="accept an adapter trained with another prompt template")
    host: str = Field("127.0.0.1", description="address `serve` and `review` bind to; loopback only")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8377, description="port of `serve`")
    queue: Positive = Field(64, description="requests waiting at most")
    adapters: Path | None = Field(None, description="folder whose LoRA GGUFs a request to `serve` may name")
    stuck_seconds: float = Field(
        300.0, gt=0, description="seconds over one answer after which /health of `serve` says 503, for a restart"
    )


class ReviewConfig(Table):
    """The local app: blind review, its result and the live view."""

    items: Positive = Field(50, description="reasonings a model to review")
    journal: Path | None = Field(None, description="journal whose reasons are reviewed; none: the replay's")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8378, description="port of the local app; 0: any free one")


class RetrainConfig(Table):
    """When `retrain` trains again."""

    min_new_candles: Positive = Field(
        500, description="candles of data.timeframe that every pair must have gained since the last training"
    )


class NotifyConfig(Table):
    """Messages to people, through apprise; off without an address."""

    urls: Annotated[tuple[SecretStr, ...], BeforeValidator(_listed)] = Field(
        (), description="apprise addresses such as tgram://TOKEN/CHAT; CANDLETUNE_NOTIFY_URLS adds to them"
    )
    events: tuple[Literal["training", "failure", "verdict", "fault", "promotion", "rollback", "drift"], ...] = Field(
        ("training", "failure", "verdict", "fault", "promotion", "rollback", "drift"), description="what is told"
    )
