"""Silence what the libraries say on every run and no user can act on; everything else still shows."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

KNOWN = (
    r"Paged optimizers are not supported on CPU",  # a CPU has no second memory to page to
    r".*is_gradient_checkpointing.*",
    r".*`gradient_checkpointing` is deprecated.*",
    r".*torch\.jit\.script_method.*",
    r".*Could not find a config file in .*",  # PEFT looks for the base's config on the hub; the adapter names no path
    r".*Unable to fetch remote file.*",
)
LOGGERS = ("bitsandbytes", "bitsandbytes.backends.cpu.ops", "accelerate.big_modeling")


@contextmanager
def quiet() -> Iterator[None]:
    """Leave out the known lines for the block."""
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for message in KNOWN:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
