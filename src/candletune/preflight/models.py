"""Checks of models: the base in both formats, the prompt against it, what is adapted, the export's type."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from candletune.base.tiny import built_tiny
from candletune.config import Config
from candletune.decisions import DECISIONS
from candletune.errors import CandletuneError
from candletune.fields.registry import EXAMPLE
from candletune.gguf.header import Header, read_header
from candletune.gguf.model import check_architecture
from candletune.gguf.names import LINEAR_LAYERS, OTHER_LINEAR_LAYERS
from candletune.gguf.quantize import file_type
from candletune.model_shape import ModelShape
from candletune.preflight.findings import Finding, check
from candletune.prompts.reasons import write_completion
from candletune.prompts.template import load_template
from candletune.stages.needs import known_base

LEAST_TOKENS = 6
"""Characters that a token stands for, at most on average: a bound where no tokenizer is at hand."""
ANSWERS = 50
"""Answers of each class that are written to see how long they are."""


@check("base", "train", "export")
def base(config: Config) -> Iterator[Finding]:
    """The base: on this machine and supported, or to be had from the hub."""
    name = config.base.model
    if name == "tiny":
        yield Finding("ok", "base", "tiny: built locally on first use")
        return
    folder = Path(name)
    base_folder = known_base(config).path if not folder.is_dir() else folder
    if base_folder is None:
        yield _hub(name, config.base.revision)
        return
    writes_base = config.base.gguf is None or config.export.kind == "merged"
    shape = check_architecture(base_folder, writes_base=writes_base, adapted=config.train.target_modules)
    about = f"{shape.parameters_text} weights, {shape.architecture.model_type}: {shape.architecture.support}"
    yield Finding("ok", "base", f"{base_folder}: {about}")


def _hub(name: str, revision: str | None) -> Finding:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(name)
        HfApi().auth_check(name)
        HfApi().model_info(name, revision=revision, timeout=10)
    except GatedRepoError:
        text = f"{name}: gated; accept its licence on its page, then `hf auth login` with your token"
        return Finding("problem", "base", text)
    except HFValidationError:
        return Finding("problem", "base", f"{name}: neither a folder that is there nor a hub name; check base.model")
    except RepositoryNotFoundError:
        text = f"{name}: no such model, or no access; check the name or `hf auth login`"
        return Finding("problem", "base", text)
    except Exception as error:  # a dead line raises the HTTP library's own error, and the hub's client changes those
        reason = f"the hub cannot be asked now ({type(error).__name__}), and the base is not on this machine"
        return Finding("problem", "base", f"{name}: {reason}; connect once, or set base.model to a folder that has it")
    return Finding("ok", "base", f"{name}: accessible; downloaded on first use")


@check("prompt length", "train", "verify", "replay")
def prompt_length(config: Config) -> Iterator[Finding]:
    """A prompt of the template against the longest that training and llama.cpp take."""
    try:
        prompt = load_template(config.prompt.template).render(EXAMPLE)
        exact, (tokens,) = _counted(config, [prompt])
    except CandletuneError:
        return  # said by the checks of template and base
    words = f"a prompt has {'about' if exact else 'at least'} {tokens} tokens"
    # Training shortens headlines, so only a prompt that is far too long must fail.
    for key, limit, least in (
        ("engine.context", config.engine.context, tokens + config.engine.max_tokens),
        ("train.max_sequence_length", config.train.max_sequence_length, tokens * 3 // 4),
    ):
        if least > limit:
            answer = f" and engine.max_tokens wants {config.engine.max_tokens}" if key == "engine.context" else ""
            text = f"{key}: {words}{answer}, more than {limit}; raise it, or shorten the template"
            yield Finding("problem", "prompt", text, exit_code=2)


@check("answer length", "train", "verify")
def answer_length(config: Config) -> Iterator[Finding]:
    """`engine.max_tokens` against the answers that training teaches: `verify` wants them to end by themselves."""
    share = config.verify.min_parsed
    try:
        visible, rng = load_template(config.prompt.template).visible(EXAMPLE), random.Random(config.seed)  # noqa: S311
        answers = [write_completion(visible, label, rng)[1] for label in DECISIONS for _ in range(ANSWERS)]
        exact, lengths = _counted(config, answers)
    except CandletuneError:
        return  # said by the checks of template and base
    # The end token is one more.
    needed = sorted(lengths)[min(len(lengths) - 1, int(share * len(lengths)))] + 1
    if share and config.engine.max_tokens < needed:
        text = (
            f"engine.max_tokens: {share:.0%} of the answers must end by themselves (verify.min_parsed), and those that "
            f"training teaches take {'up to about' if exact else 'at least'} {needed} tokens, more than "
            f"{config.engine.max_tokens}; raise it"
        )
        yield Finding("problem", "answers", text, exit_code=2)


def _counted(config: Config, texts: Sequence[str]) -> tuple[bool, list[int]]:
    """Whether a tokenizer counted, and how many tokens each text has (or has at least)."""
    path = built_tiny(config) if config.base.model == "tiny" else known_base(config).path
    if path is None or not (path / "tokenizer.json").is_file():
        return False, [len(text) // LEAST_TOKENS for text in texts]
    from candletune.base.tokenizer import load_tokenizer

    encode = load_tokenizer(path).encode
    return True, [len(encode(text)) for text in texts]


@check("chat format", "train", "verify")
def chat(config: Config) -> Iterator[Finding]:
    """A base's chat template must show prompt and answer once, unless `base.chat = "mistral"` passes it over."""
    if config.base.chat == "mistral" or config.base.model == "tiny":
        return
    path = known_base(config).path
    if path is not None:
        from candletune.base.tokenizer import chat_format, load_tokenizer

        chat = chat_format(config, load_tokenizer(path))
        yield Finding("ok", "chat format", " ".join(f"{chat.before}..{chat.after}..{chat.end}".split()))


@check("base.gguf", "export", "verify", "replay")
def base_gguf(config: Config) -> Iterator[Finding]:
    """The GGUF that will serve: a whole model, of the sizes that are trained."""
    path = config.base.gguf
    if path is None:
        return
    header = read_header(path)
    if header.is_adapter:
        text = f"{path}: is a LoRA adapter, not a base model; set base.gguf to the base model's GGUF"
        yield Finding("problem", "base.gguf", text)
        return
    unlike = _unlike(header, known_base(config).shape) if config.base.model == "tiny" or known_base(config).path else ""
    if unlike:
        text = f"{path}: {unlike}; base.gguf and base.model must be one model"
        yield Finding("problem", "base.gguf", text)
    else:
        yield Finding("ok", "base.gguf", f"{path}: {path.stat().st_size / 2**30:.1f} GiB")


def _unlike(header: Header, shape: ModelShape) -> str:
    architecture = header.fields.get("general.architecture")
    for key, wanted in (
        ("embedding_length", shape.hidden),
        ("block_count", shape.layers),
        ("feed_forward_length", shape.feed_forward),
    ):
        have = header.fields.get(f"{architecture}.{key}")
        if have is not None and have != wanted:
            return f"its {key} is {have}, base.model's is {wanted}"
    return ""


@check("adapted layers", "train", "export")
def adapted_layers(config: Config) -> Iterator[Finding]:
    """Layers that a LoRA GGUF cannot carry, or that no base has."""
    for name in config.train.target_modules:
        if name not in (*LINEAR_LAYERS, *OTHER_LINEAR_LAYERS):
            text = (
                f"train.target_modules: {name} cannot be adapted and exported; choose among {', '.join(LINEAR_LAYERS)}"
            )
            yield Finding("problem", "adapter", text, exit_code=2)


@check("quantization", "export")
def quantization(config: Config) -> Iterator[Finding]:
    """The merged model's type, where one may be written."""
    if config.export.kind == "merged" or config.export.fallback:
        file_type(config.export.quantize)
        yield Finding("ok", "export", f"merged, {config.export.quantize}")
