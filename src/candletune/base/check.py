"""Refuse a base before anything long runs, when training or export would refuse it later."""

from pathlib import Path

from candletune.base.find import served_gguf
from candletune.config import Config
from candletune.gguf.model import check_architecture
from candletune.model_shape import ModelShape


def check_base(base: Path, config: Config) -> ModelShape:
    """Check a base by its headers alone.

    Args:
        base: Hugging Face folder or GGUF.
        config: says what is adapted, and whether the folder will be written as GGUF.

    Returns:
        The base's sizes.

    Raises:
        InputError: see `check_architecture` and `check_packed`.
    """
    adapted = config.train.target_modules
    if base.is_file():
        from candletune.base.from_gguf import check_packed

        return check_packed(base, adapted)
    writes_base = served_gguf(config) is None or config.export.kind == "merged"
    return check_architecture(base, writes_base=writes_base, adapted=adapted)
