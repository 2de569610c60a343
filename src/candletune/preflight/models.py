"""Checks of models: the base that trains, what is adapted, the export's type."""

from collections.abc import Iterator

from candletune.base.check import check_base
from candletune.base.tiny import PACKAGED, built_tiny
from candletune.config import Config
from candletune.gguf.names import LINEAR_LAYERS, OTHER_LINEAR_LAYERS
from candletune.gguf.quantize import file_type
from candletune.preflight.findings import Finding, check
from candletune.stages.needs import known_base


@check("base", "base", "train", "export")
def base(config: Config) -> Iterator[Finding]:
    """The base: on this machine and supported, or to be had from the hub."""
    name = config.base.model
    if config.builds_tiny:
        built = built_tiny(config)
        where = "comes with candletune" if built == PACKAGED else "built on first use, for your template"
        yield Finding("ok", "base", f"tiny: {where}")
        return
    base_path = known_base(config).path
    if base_path is None:
        yield _hub(name, config.base.revision)
        return
    shape = check_base(base_path, config)
    about = f"{shape.parameters_text} weights, {shape.architecture.model_type}: {shape.architecture.support}"
    yield Finding("ok", "base", f"{base_path}: {about}")


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
    if config.export.kind == "merged" or (config.export.fallback and not config.base.is_gguf):
        file_type(config.export.quantize)
        yield Finding("ok", "export", f"merged, {config.export.quantize}")
