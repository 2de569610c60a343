"""What a process besides the first does in a training that several share; see `distributed`."""

import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from candletune.config import Config
from candletune.errors import CandletuneError, InputError
from candletune.hashes import sha256_path
from candletune.training.fast.distributed import CPU, Share, Step, join, leave, shared_step
from candletune.training.fast.engine import FastEngine
from candletune.training.fast.preflight import plan_for
from candletune.training.fast.seats import Seat, told_to_begin


def follow(seat: Seat, config: Config, say: Callable[[str], None]) -> None:
    """A process besides the first: load the base that is told, and work through parts of steps until sent home.

    Args:
        seat: its place.
        config: its own configuration, which names a base where process 0's path is not on this host.
        say: where notes go.

    Raises:
        InputError: it cannot load the base; or process 0 ended.
    """
    from candletune.base.load import pick_device
    from candletune.training.adapter import load_with_adapter

    if not told_to_begin(seat):
        return  # process 0 had nothing to train
    device = pick_device(config.train.device)
    join(seat, cuda=device == "cuda")
    refusal: str | None = None
    engine: FastEngine | None = None
    try:
        told: list[Any] = [None]
        dist.broadcast_object_list(told, src=0, device=CPU)
        share: Share = told[0]
        try:
            model = load_with_adapter(_own_base(share, config), share.config, device, 0)
            engine = FastEngine(model, plan_for(model, share.config, share.examples, batch=share.batch), say=say)
        except CandletuneError as error:
            refusal = str(error)
        dist.all_gather_object([None] * seat.count, refusal)
        if refusal is not None:
            raise InputError(refusal)
        assert engine is not None  # noqa: S101
        while True:
            dist.broadcast_object_list(told, src=0, device=CPU)
            if told[0] is None:
                return
            _work(engine, told[0], seat.number)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"training, process {seat.number} of {seat.count}: process 0 ended ({reason})") from None
    finally:
        leave()


def _work(engine: FastEngine, step: Step, number: int) -> None:
    if engine.model.training != step.training:
        engine.model.train(step.training)  # walks through all modules, which takes milliseconds
    flat = torch.empty(sum(p.numel() for p in engine.parameters), dtype=torch.float32, device=engine.device)
    dist.broadcast(flat, src=0)
    own = [parameter.data for parameter in engine.parameters]
    parts = flat.split([parameter.numel() for parameter in own])
    torch._foreach_copy_(own, [part.view_as(parameter) for part, parameter in zip(parts, own, strict=True)])
    shared_step(engine, step, number)


def _own_base(share: Share, config: Config) -> Path:
    """The base on this host: at process 0's path, or as this host's configuration names it; the same content."""
    from candletune.base.find import resolve_base
    from candletune.console import SilentReporter

    path = share.base if share.base.exists() else resolve_base(config, SilentReporter()).path
    if (found := sha256_path(path)) != share.sha256:
        raise InputError(
            f"{platform.node()}: {path} is {found[:8]}, process 0 trains over {share.sha256[:8]}; copy that base here"
        )
    return path
