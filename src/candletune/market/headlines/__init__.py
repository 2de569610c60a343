"""Headlines from the files that people have: csv, JSON, CryptoPanic's and GDELT's answers, RSS and Atom feeds.

`read` puts it together: `containers` and `feeds` take files apart into records, `layouts` says under which names a
format keeps what, `records` makes a headline of a record, `moments` reads times, `repeats` drops what was told before.
"""

from candletune.market.headlines.read import Headlines, read_headlines

__all__ = ["Headlines", "read_headlines"]
