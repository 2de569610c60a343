"""`pytest.mark.xdist_group` is kept: some fixtures take a minute, and a worker that has a test of theirs makes one."""

import pytest


@pytest.mark.xdist_group("groups")
def test_a_group_goes_to_one_worker(request: pytest.FixtureRequest) -> None:
    if not getattr(request.config.option, "loadgroup", False):
        pytest.skip("not run with --dist loadgroup")
    assert request.node.nodeid.endswith("@groups"), "this pytest and this pytest-xdist do not group tests"
