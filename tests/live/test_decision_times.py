"""Any moment belongs to the last candle that had closed by then."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from candletune.journal import SIDES, Role
from candletune.market.candles import decision_time

NOON = datetime(2025, 6, 4, 12, tzinfo=UTC)  # a Wednesday


@pytest.mark.parametrize(
    ("at", "timeframe", "expected"),
    [
        (NOON, "1h", NOON),
        (NOON + timedelta(microseconds=1), "1h", NOON),
        (NOON - timedelta(microseconds=1), "1h", NOON - timedelta(hours=1)),
        (NOON + timedelta(minutes=44), "15m", NOON + timedelta(minutes=30)),
        (NOON + timedelta(hours=3), "4h", NOON),
        (NOON, "1d", NOON - timedelta(hours=12)),
        (NOON, "1w", datetime(2025, 6, 2, tzinfo=UTC)),
        (datetime(1969, 12, 31, 23, 30, tzinfo=UTC), "1h", datetime(1969, 12, 31, 23, tzinfo=UTC)),
        (datetime(2025, 6, 4, 14, 5, tzinfo=timezone(timedelta(hours=2))), "1h", NOON),
        (datetime(2025, 6, 4, 17, 35, tzinfo=timezone(timedelta(hours=5, minutes=30))), "1h", NOON),
    ],
)
def test_floor_on_the_grid(at: datetime, timeframe: str, expected: datetime) -> None:
    found = decision_time(at, timeframe)
    assert found == expected
    assert found.utcoffset() == timedelta(0)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        decision_time(datetime(2025, 6, 4), "1h")  # noqa: DTZ001


def test_one_mapping_between_roles_and_sides() -> None:
    assert [(role.value, role.side) for role in Role] == [("incumbent", "active"), ("candidate", "shadow")]
    assert [Role.of(side) for side in SIDES] == list(Role)
    with pytest.raises(ValueError, match="active or shadow"):
        Role.of("incumbent")
