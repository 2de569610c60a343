"""The append-only A/B log: what incumbent and candidate answered at each decision time.

JSON lines, `SCHEMA` on every row. A row is one `write` and one `fsync` under a lock that several processes share, so a
row that `append` returned for is on disk once, whole. A line without its newline was never acknowledged: the next
writer moves it to a side file (`ab_test_log.jsonl.torn`) and counts it. Reading streams, never waits for a writer, and
never hands out half a line.
"""

from candletune.journal.reader import read_frame, read_rows
from candletune.journal.roles import Role, SideName
from candletune.journal.rows import (
    SCHEMA,
    SIDES,
    STATUSES,
    DuplicateRow,
    Mode,
    Problems,
    Row,
    RowRecord,
    Side,
    SideRecord,
    Status,
    format_time,
    parse_time,
)
from candletune.journal.writer import Journal

__all__ = [
    "SCHEMA",
    "SIDES",
    "STATUSES",
    "DuplicateRow",
    "Journal",
    "Mode",
    "Problems",
    "Role",
    "Row",
    "RowRecord",
    "Side",
    "SideName",
    "SideRecord",
    "Status",
    "format_time",
    "parse_time",
    "read_frame",
    "read_rows",
]
