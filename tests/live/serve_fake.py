"""`serve` over an engine without a model, as a program: prints its port, serves until SIGTERM."""

import sys
from pathlib import Path

from fakes import FakeEngine

from candletune.config import load_config
from candletune.report.app.socket import listen
from candletune.serving import serve_forever
from candletune.signal import Trader

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    config = load_config(None, [f"run.folder={folder / 'run'}", f"live.state={folder / 'active.json'}"])
    bound = listen("127.0.0.1", 0)
    print(bound.getsockname()[1], flush=True)
    serve_forever(Trader(config, engine=FakeEngine()), bound, queue=config.live.queue)
    print("closed", flush=True)
