"""The listening socket, bound before anything is announced, so that a taken port is a clear error."""

import socket

from candletune.errors import UsageError


def listen(host: str, port: int, *, key: str = "review.port") -> socket.socket:
    """Bind a loopback socket; `key` names the setting in the error.

    Raises:
        UsageError: the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise UsageError(
            f"{key}: cannot listen on {host}:{port} ({error.strerror}); choose another with --port, or --port 0"
        ) from None
    bound.listen(64)
    return bound
