"""The tables of the configuration from candles to a verified model; every default is the plan's value.

A table's docstring says which stage reads it; a field's description gives unit and meaning (the configuration reference
in the docs is generated from them).
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from candletune.config_types import (
    Positive,
    Share,
    Table,
    Timeframe,
    TrainingEngineName,
    UtcTime,
    timeframe_minutes,
)

SMOLLM2 = "smollm2"
"""A pretrained base that a package of the Python index carries as GGUF (see `base/packaged.py`)."""


ServeType = (
    Literal[
        "F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q5_1", "Q5_0", "Q4_K_M", "Q4_K_S", "Q4_1", "Q4_0"
    ]
    | Literal["Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K", "IQ4_NL", "IQ4_XS"]
)
"""llama.cpp's model types that can be written without an importance matrix and trained over."""


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class DataConfig(Table):
    """Which candles and context files are read."""

    folder: Path = Field(Path("user_data/data/binance"), description="freqtrade data folder (or its futures/ folder)")
    pairs: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(
        ("BTC/USDT:USDT", "ETH/USDT:USDT"),
        min_length=1,
        description="freqtrade pair names; `all`, or patterns such as `*/USDT:USDT`: those whose candles are there",
    )
    timeframe: Timeframe = Field("1h", description="candle length decisions are made on")
    context_timeframes: tuple[Timeframe, ...] = Field(
        ("4h", "12h", "1d"), description="resampled timeframes summarised in the prompt"
    )
    fear_greed: Path | None = Field(
        None, description="Fear & Greed history (csv or alternative.me JSON); none: neutral"
    )
    fear_greed_delay: Annotated[int, Field(ge=0, le=10_080)] = Field(
        5, description="minutes from a value's time in that file until one could have known it"
    )
    headlines: Path | None = Field(
        None,
        description="headlines (csv, JSON, CryptoPanic, GDELT, RSS, Atom): a file or a folder of them; none: N/A",
    )
    headline_format: Literal["auto", "csv", "json", "cryptopanic", "gdelt", "feed"] = Field(
        "auto", description="what those files are; auto: told by their content"
    )
    headline_delay: Annotated[int, Field(ge=0, le=10_080)] = Field(
        5,
        description="minutes from a headline's own time until one could have known it; unused where its file says so",
    )
    headline_repeat_hours: Annotated[int, Field(ge=0, le=8_760)] = Field(
        24, description="hours in which a story told again is left out; 0: told as often as the files do"
    )
    headline_hours: Annotated[int, Field(ge=1, le=100_000)] = Field(
        24, description="hours a headline stays in the prompt"
    )
    headline_count: Positive = Field(3, description="headlines shown at most")

    @property
    def candle(self) -> timedelta:
        """Length of one candle of `timeframe`."""
        return timedelta(minutes=timeframe_minutes(self.timeframe))


class HeadlinesConfig(Table):
    """How headlines are trained on."""

    dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the training rows that lose their headlines, so that the model serves without news too",
    )


class LabelsConfig(Table):
    """How a decision time is labelled from what happened later."""

    method: Literal["fixed", "volatility", "triple_barrier"] = Field("fixed", description="labelling rule")
    horizon: Annotated[int, Field(ge=1, le=10_000)] = Field(
        12, description="candles between the decision and its outcome"
    )
    threshold: float = Field(0.02, gt=0, description="return above which BUY, below minus which SELL (0.02 = 2 %)")
    volatility_window: Positive = Field(
        168, description="candles of the volatility estimate (volatility, triple_barrier)"
    )
    volatility_factor: float = Field(1.0, gt=0, description="barrier in units of horizon volatility")
    shuffle: bool = Field(False, description="control: permute the labels, so that nothing can be learned")


class DatasetConfig(Table):
    """Sampling, balancing and splitting of the training examples."""

    per_class: Positive = Field(1000, description="examples of each class; fewer when a class has fewer")
    timeframes: tuple[Timeframe, ...] = Field(
        (), description="candle lengths whose decisions become examples, data.timeframe among them; none: that alone"
    )
    test_start: UtcTime = Field(
        None,
        description="decisions from this time on are kept out for replay; none: the last 12 months, at most a third",
    )
    train_start: UtcTime = Field(None, description="decisions before this time are left out")
    split: Literal["chronological", "random"] = Field(
        "chronological", description="random reproduces the plan and leaks"
    )
    eval_fraction: Share = Field(0.1, description="share of the examples in the eval split")
    embargo: int = Field(12, ge=0, le=100_000, description="candles left out between train and eval beyond the purge")
    natural_eval: Positive = Field(500, description="eval decision times sampled at the base rates")


class BaseConfig(Table):
    """The base model."""

    model: str = Field(
        "mistralai/Ministral-8B-Instruct-2410",
        description="hub name, folder, `tiny` or `smollm2`; left out beside `base.gguf`: that file is the whole base",
    )
    gguf: Path | None = Field(
        None,
        description="the base as GGUF, which is trained over and served; none: the base stage writes it from "
        "`base.model`",
    )
    serve_type: ServeType | None = Field(
        None,
        description="llama.cpp type of a base GGUF that is written; none: Q4_K_M, F32 for `tiny`, and a GGUF that is "
        "given is served as it is; set beside one: it is expanded to F16 or F32 (or rounded, from F16 or F32)",
    )
    revision: str | None = Field(None, description="hub revision")
    chat: Literal["auto", "template", "mistral"] = Field(
        "auto", description="auto: the base's chat template, `[INST]..[/INST]` where it has none; or one of the two"
    )
    cache: Path = Field(Path("~/.cache/candletune"), description="where a tiny base for a template of your own is kept")

    @model_validator(mode="before")
    @classmethod
    def _gguf_alone(cls, values: Any) -> Any:
        """A GGUF without a model beside it is the whole base; an empty name says so."""
        if isinstance(values, dict) and values.get("gguf") is not None and "model" not in values:
            return values | {"model": ""}
        return values

    @property
    def is_gguf(self) -> bool:
        """Whether the base is a GGUF and nothing else: no folder, no second copy."""
        return self.model in ("", SMOLLM2)

    @property
    def written_type(self) -> str:
        """llama.cpp's type of a base GGUF that is written."""
        return self.serve_type or ("F32" if self.model == "tiny" else "Q4_K_M")


class PromptConfig(Table):
    """The prompt template."""

    template: Path | None = Field(None, description="a Jinja2 file of your own; none: the packaged one")


class TrainConfig(Table):
    """QLoRA; the names follow the plan's table."""

    lora_rank: Positive = Field(8, description="rank of the adapter")
    lora_alpha: Positive = Field(16, description="scaling numerator; the update is scaled by alpha / rank")
    target_modules: tuple[str, ...] = Field(("q_proj", "v_proj"), min_length=1, description="adapted projections")
    dropout: float = Field(0.05, ge=0, lt=1, description="LoRA dropout")
    quantization: Literal["auto", "gguf", "nf4", "fp4", "none"] = Field(
        "auto",
        description="storage of the frozen base weights; gguf: the blocks that llama.cpp serves; nf4, fp4 and none: of "
        "the base.model in safetensors; auto: gguf, or nf4 where it cannot be trained over",
    )
    double_quant: bool = Field(True, description="quantize the quantization constants too")
    epochs: float = Field(3.0, gt=0, description="passes over the train split")
    max_steps: int = Field(0, ge=0, description="optimizer steps; 0: as many as `epochs` needs")
    effective_batch: Positive = Field(32, description="examples an optimizer step")
    batch_size: int = Field(
        0, ge=0, description="examples a forward pass; 0: the largest that fits, at most the effective"
    )
    learning_rate: float = Field(2e-4, gt=0, description="peak learning rate")
    schedule: Literal["cosine", "linear", "constant"] = Field("cosine", description="decay after warm-up")
    warmup: float = Field(0.03, ge=0, lt=1, description="share of the steps used for warm-up")
    optimizer: Literal["paged_adamw_8bit", "adamw_8bit", "adamw_torch"] = Field(
        "paged_adamw_8bit", description="optimizer"
    )
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay")
    max_grad_norm: float = Field(1.0, gt=0, description="gradient clipping")
    gradient_checkpointing: bool = Field(True, description="recompute activations to save memory")
    bf16: bool = Field(True, description="compute in bfloat16 (on a GPU; a CPU computes in float32)")
    max_sequence_length: Positive = Field(2048, description="tokens; longer prompts lose headlines, never the answer")
    decision_weight: float = Field(
        20.0, ge=1, description="loss weight of the decision token, mean-normalised; 1: plan"
    )
    call_share: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="share of the hours at which the adapter is to call BUY or SELL; none: as often as the labels do, "
        "or, with objective = utility, as often as it paid on held-out rows",
    )
    policy_steps: int = Field(
        20,
        ge=0,
        description="optimizer steps of a round that teaches call_share; 0: not taught, calls nearly always",
    )
    uniqueness: bool = Field(
        False, description="weigh each example by how much of its outcome window no other example of its asset shares"
    )
    init_adapter: Path | None = Field(
        None,
        description="adapter (PEFT folder) of the same base and layers that training goes on from; none: a new one",
    )
    objective: Literal["labels", "soft", "utility"] = Field(
        "labels",
        description="of the decision token: labels; soft: soft_target = 1 unless it is given; utility: the expected "
        "net return under the model's own probabilities",
    )
    soft_target: float = Field(0.0, ge=0, le=1, description="share of a soft target from the realised return")
    utility_fee: float = Field(0.001, ge=0, lt=1, description="fees and slippage of a call, in and out (0.001 = 0.1 %)")
    utility_cap: float = Field(3.0, gt=0, description="what a call earns at most, in volatilities of the horizon")
    utility_risk: float = Field(0.0, ge=0, description="penalty on variance: half of it times the squared earning")
    utility_temperature: float = Field(
        1.0,
        ge=0,
        description="the trained answer is softmax(expected earning / this), earnings in volatilities; 0: the best "
        "decision alone",
    )
    utility_warmup: float = Field(
        0.5, ge=0, le=1, description="share of the steps over which the loss goes from labels to utility"
    )
    eval_steps: int = Field(50, ge=0, description="optimizer steps between evaluations; 0: only at the end")
    save_steps: Positive = Field(50, description="optimizer steps between checkpoints")
    patience: int = Field(
        3, ge=0, description="evaluations without a better eval loss before stopping with the best adapter; 0: off"
    )
    vram_gib: float | None = Field(None, gt=0, description="memory budget; none: what the card has free")
    gpus: int = Field(0, ge=0, description="GPUs that share each step, a process each (fast engine); 0: all visible")
    backend: TrainingEngineName = Field("auto", description="training engine: auto, fast, reference, unsloth")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where to train")

    @model_validator(mode="before")
    @classmethod
    def _wholly_soft(cls, values: Any) -> Any:
        """`objective = "soft"` alone means soft targets and nothing else."""
        if isinstance(values, dict) and values.get("objective") == "soft" and "soft_target" not in values:
            return values | {"soft_target": 1.0}
        return values


class ExportConfig(Table):
    """GGUF export."""

    kind: Literal["adapter", "merged"] = Field("adapter", description="LoRA-only GGUF, or merged into the base")
    adapter_type: Literal["F32", "F16", "BF16"] = Field("F32", description="number format of the LoRA GGUF")
    quantize: str = Field("Q4_K_M", description="llama.cpp type of a merged model")
    fallback: bool = Field(False, description="merge when the adapter's export is refused")

    @model_validator(mode="before")
    @classmethod
    def _moved(cls, values: Any) -> Any:
        if isinstance(values, dict) and "base_type" in values:
            raise ValueError(
                "export.base_type is base.serve_type now (Q4_K_M by default): the base GGUF is written before "
                "training, which works on it"
            )
        return values


class VerifyConfig(Table):
    """Certification of an export; a limit is a criterion in verify.json, or marks a finding."""

    prompts: Annotated[int, Field(ge=10)] = Field(50, description="held-out prompts that are answered in text")
    rows: int = Field(
        0,
        ge=0,
        description="labelled eval rows whose decisions are compared; 0: at most 500, and at most 200 where llama.cpp "
        "computes a large base on a CPU",
    )
    min_parsed: Annotated[float, Field(ge=0, le=1)] = Field(0.95, description="share of answers that must parse")
    min_plain_agreement: Annotated[float, Field(ge=0, le=1)] = Field(
        0.98, description="share of plain greedy answers that must say the judged decision"
    )
    min_agreement: Share = Field(0.98, description="share of decisions equal to the model's as trained")
    max_accuracy_loss: float = Field(
        0.02, gt=0, description="balanced accuracy that serving may lose (0.02 = 2 points)"
    )
    max_log_loss_gain: float = Field(0.05, gt=0, description="log loss in nats that serving may add")
    max_probability_gap: float = Field(0.05, gt=0, description="largest decision-probability difference allowed")
    max_quantized_gap: float = Field(0.25, gt=0, description="the same over a quantized base (Q4_K_M and the like)")
    headline_rows: int = Field(
        20, ge=0, description="held-out rows asked again with hostile, neutral and no headlines; 0: not asked"
    )
    max_headline_shift: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5,
        description="share of decisions that hostile headlines may turn: a criterion with data.headlines, or a finding",
    )
    reference: Literal["trained", "none"] = Field(
        "trained",
        description="what llama.cpp is compared with: the model as trained, over the weights it was trained over; or "
        "nothing",
    )
    min_classes: Annotated[int, Field(ge=1, le=3)] = Field(
        2, description="different decisions expected; fewer is a finding, not a fault"
    )
    min_difference: float = Field(
        1e-3, gt=0, description="mean probability change against the bare base expected; less is a finding"
    )

    @field_validator("reference", mode="before")
    @classmethod
    def _one_reference(cls, value: Any) -> Any:
        """Two models were called the reference before; neither need be the one that was trained."""
        if value in ("float", "nf4"):
            raise ValueError(f"{value} is no longer a choice; use trained: the model over the weights it trained over")
        return value


class SimulateConfig(Table):
    """A simulated market with a known answer, in place of candle files."""

    enabled: bool = Field(False, description="write simulated candles into the run folder and use them")
    signal: float = Field(
        0.8, ge=0, le=1, description="how much of the forward return the indicators predict; 0: noise"
    )
    years: float = Field(3.0, gt=0, le=50, description="years of candles")
    turn: Share | None = Field(
        None,
        description="share of the history after which trends no longer go on and the price comes back instead; none: "
        "never",
    )
    start: UtcTime = Field(datetime(2022, 1, 1, tzinfo=UTC), description="first candle")
    news: float = Field(
        0.0, ge=0, le=1, description="how strongly events move the price that headlines tell of; 0: no headlines"
    )
    unseen: Share = Field(
        2 / 3,
        description="share of the history after which headlines are worded as never before and half of the kinds of "
        "events are new; dataset.test_start where that is not set",
    )

    @property
    def unseen_from(self) -> datetime:
        """When the new wordings begin."""
        assert self.start is not None  # noqa: S101
        return self.start + timedelta(hours=round(self.unseen * self.hours))

    @property
    def hours(self) -> int:
        """Candles a pair."""
        return round(self.years * 365.25 * 24)


class RunConfig(Table):
    """The run folder."""

    folder: Path = Field(Path("runs/default"), description="where every stage writes")
