"""Ray: started or found only where it is asked for. One machine with one GPU needs none of it."""

import logging
import os
from typing import Any, Final

from candletune.errors import UsageError

RETRIES: Final = 5
"""Times that work is begun again when its process or its node is lost."""


def connect(address: str) -> Any:
    """The `ray` module, connected.

    Args:
        address: `auto` (the running cluster, or else one on this machine), `local` (one on this machine), or an address
            as Ray takes it.

    Raises:
        UsageError: Ray is not installed, or no cluster answers there.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing leaves this machine unasked
    try:
        import ray
    except ImportError:
        raise UsageError("--ray: the package ray is not installed; pip install 'candletune[ray]'") from None
    if not ray.is_initialized():
        try:
            ray.init(address=None if address == "auto" else address, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:  # Ray raises a bare one where a node does not start in time
            reason = " ".join(str(error).split())[:160]
            raise UsageError(
                f"--ray: no cluster at {address} ({reason}); start one with `ray start --head`, or use --ray local"
            ) from None
    return ray


def gpus_each(ray: Any, wanted: bool) -> int:
    """GPUs of a task: one where the cluster has any and the work wants one."""
    return int(wanted and ray.cluster_resources().get("GPU", 0) >= 1)
