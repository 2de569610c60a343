"""Steps shared between processes give one process's loss and gradients; a worker's failure is said."""

from pathlib import Path

import pytest
import torch

from candletune.config import TrainConfig
from candletune.errors import InputError
from candletune.training.adapter import load_with_adapter
from candletune.training.fast.engine import FastEngine
from candletune.training.fast.parallel import DataParallelEngine, WorkerTask, other_devices
from candletune.training.fast.preflight import plan_for
from training_models import examples, gradients, tiny_model

CONFIG = TrainConfig(quantization="none", lora_rank=4, lora_alpha=8, dropout=0.3, backend="fast", vram_gib=1.0)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    tiny_model().unload().save_pretrained(folder)
    return folder


def member(base: Path) -> FastEngine:
    """This process's engine; LoRA B is not zero."""
    model = load_with_adapter(base, CONFIG, "cpu", 0).train()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(len(name)))
    return FastEngine(model, plan_for(model, CONFIG, examples(8, 5), batch=2), say=pytest.fail)


def test_a_worker_changes_nothing(base: Path) -> None:
    """Dropout included: a row's mask does not depend on which process works on it (micro-batch 2 everywhere)."""
    rows = examples(8, 5)
    alone = member(base)
    assert alone.plan.micro_batch == 2
    torch.manual_seed(3)
    wanted_loss, wanted_weight = alone.loss(rows)
    torch.autograd.backward(wanted_loss)
    wanted = gradients(alone.model)
    shared = DataParallelEngine(member(base), WorkerTask(base, CONFIG, rows, 2), devices=[None], say=pytest.fail)
    try:
        for _ in range(2):
            torch.manual_seed(3)
            loss, weight = shared.loss(rows)
            torch.autograd.backward(loss)
            assert loss.item() == pytest.approx(wanted_loss.item(), rel=1e-6)
            assert weight == wanted_weight
            for key, grad in gradients(shared.engine.model).items():
                assert (grad - wanted[key]).norm() <= 1e-5 * wanted[key].norm(), key
        assert shared.loss(rows[:1])[1] < wanted_weight
        assert shared.evaluate(rows) == alone.evaluate(rows)
        shared._workers[0].process.kill()
        shared._workers[0].process.join()
        with pytest.raises(InputError, match=r"worker process died; .*train\.gpus=1"):
            shared.loss(rows)
    finally:
        shared.close()


def test_a_worker_that_cannot_load_says_why(base: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"training on the CPU: .*cannot be loaded as a causal model"):
        DataParallelEngine(
            member(base), WorkerTask(tmp_path, CONFIG, examples(4, 3), 2), devices=[None], say=pytest.fail
        )


def test_devices_follow_the_visible_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert other_devices(0) == ["1", "2", "3"]
    assert other_devices(2) == ["1"]
    assert other_devices(1) == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "6,2,4")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert other_devices(0) == ["2", "4"]
