"""`serve` over an engine without a model, as a program: prints its port, serves until SIGTERM."""

import sys
from pathlib import Path

from fakes import FakeEngine

from candletune.config import load_config
from candletune.live.signal import Trader
from candletune.web.serve import serve_forever
from candletune.web.socket import listen

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    config = load_config(None, [f"run.folder={folder / 'run'}", f"live.state={folder / 'active.json'}"])
    bound = listen("127.0.0.1", 0)
    print(bound.getsockname()[1], flush=True)
    serve_forever(Trader(config, engine=FakeEngine()), bound, queue=config.live.queue)
    print("closed", flush=True)
