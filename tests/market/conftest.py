"""The local server of the download tests."""

from collections.abc import Iterator

import pytest

from fetch_server import Server


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()
