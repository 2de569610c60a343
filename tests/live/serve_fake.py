"""`serve` over an engine without a model, as a program: prints its port, serves until SIGTERM.

Arguments: a folder, then settings: `stuck=1` blocks the worker in the first answer, `review=1` serves the review app,
others are bounds (`request_seconds=0.5`).
"""

import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from fakes import FakeEngine
from numpy.typing import NDArray

from candletune.config import load_config
from candletune.live.signal import Trader
from candletune.runs import RunFolder
from candletune.web.review import create_app
from candletune.web.serve import serve_forever
from candletune.web.server import Bounds, server_of
from candletune.web.socket import listen


class Blocked(FakeEngine):
    """Never comes back, as a read of a broken disk."""

    def score(self, prompts: Sequence[str]) -> NDArray[np.float64]:
        threading.Event().wait()
        return super().score(prompts)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    given = {key: float(value) for key, value in (text.split("=") for text in sys.argv[2:])}
    stuck, review = given.pop("stuck", 0), given.pop("review", 0)
    given = {key: int(value) if key == "connections" else value for key, value in given.items()}
    bounds = Bounds(**given)  # type: ignore[arg-type]
    config = load_config(None, [f"run.folder={folder / 'run'}", f"live.state={folder / 'active.json'}"])
    bound = listen("127.0.0.1", 0)
    port = bound.getsockname()[1]
    print(port, flush=True)
    if review:
        app = create_app(config, RunFolder(config.run.folder), port=port)
        server_of(app, bounds=bounds).run(sockets=[bound])
    else:
        trader = Trader(config, engine=Blocked() if stuck else FakeEngine())
        seconds = 0.2 if stuck else config.live.stuck_seconds
        serve_forever(trader, bound, queue=config.live.queue, stuck_seconds=seconds, bounds=bounds)
    print("closed", flush=True)
