"""Candles as they were when a period ended: what a fold reads holds nothing later, and new candles change no fold."""

from datetime import datetime

import polars as pl

from candletune.config import Config
from candletune.files import atomic_folder, read_json, write_json
from candletune.hashes import fingerprint, sha256_path
from candletune.market.candles import check_candles, find_candle_file, read_file
from candletune.runs import RunFolder

VERSION = 1


def cut_candles(config: Config, end: datetime, run: RunFolder) -> None:
    """Write each pair's candles that had closed by `end` into the run folder; the same ones again write nothing.

    Args:
        config: with `data.folder` at the whole history.
        end: of the period.
        run: of the fold.

    Raises:
        InputError: a candle file is missing or broken.
    """
    sources = {pair: find_candle_file(config.data.folder, pair, config.data.timeframe) for pair in config.data.pairs}
    digest = fingerprint([VERSION, str(end), {pair: sha256_path(path) for pair, path in sources.items()}])
    marker = run.candles / "walk.json"
    if marker.exists() and read_json(marker).get("fingerprint") == digest:
        return
    with atomic_folder(run.candles) as temporary:
        for path in sources.values():
            frame, _ = check_candles(read_file(path), path, config.data.timeframe)
            closed = frame.filter(pl.col("date") + config.candle <= end)
            closed.write_ipc(temporary / f"{path.name.split('.')[0]}.feather", compression="lz4")
        write_json(temporary / "walk.json", {"fingerprint": digest})
