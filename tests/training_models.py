"""A tiny float32 Mistral with LoRA, random examples, and the plain Transformers + PEFT loss over them."""

import random
from collections.abc import Sequence
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import MistralConfig, MistralForCausalLM

from candletune.training.examples import TokenizedExample

VOCABULARY = 200


def tiny_model(targets: Sequence[str] = ("q_proj", "v_proj"), dropout: float = 0.0) -> Any:
    """Three layers with grouped queries; LoRA B is not zero, so that every gradient is seen."""
    torch.manual_seed(0)
    shape = MistralConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        sliding_window=None,
    )
    lora = LoraConfig(r=4, lora_alpha=8, lora_dropout=dropout, target_modules=list(targets))
    model = get_peft_model(MistralForCausalLM(shape), lora)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model.train()


def examples(count: int, shared: int, seed: int = 0) -> list[TokenizedExample]:
    """Rows of different lengths that begin with BOS and `shared` equal ids; the decision token weighs 20."""
    draw = random.Random(seed)  # noqa: S311
    lead = [1, *(draw.randrange(10, VOCABULARY) for _ in range(shared))]
    rows = []
    for _ in range(count):
        prompt = lead + [draw.randrange(10, VOCABULARY) for _ in range(draw.randint(5, 12))]
        answer = [draw.randrange(10, VOCABULARY) for _ in range(draw.randint(3, 7))]
        weights = [20.0 if place == 1 else 1.0 for place in range(len(answer))]
        rows.append(TokenizedExample(tuple(prompt + answer), len(prompt), len(prompt) + 1, tuple(weights)))
    return rows


def plain_loss(model: Any, rows: Sequence[TokenizedExample]) -> Tensor:
    """The loss as the documentation would write it: one row at a time, full logits, no sharing."""
    total = torch.zeros(())
    for row in rows:
        ids = torch.tensor([row.ids])
        logits = model(input_ids=ids).logits[0].float()[row.prompt_length - 1 : -1]
        losses = cross_entropy(logits, ids[0, row.prompt_length :], reduction="none")
        weights = torch.tensor(row.weights)
        if row.soft:
            place = row.decision_index - row.prompt_length
            ids_of, shares = zip(*row.soft, strict=True)
            losses[place] = -(logits[place].log_softmax(-1)[list(ids_of)] * torch.tensor(shares)).sum()
        total = total + (losses * weights).sum()
    return total


def gradients(model: Any) -> dict[str, Tensor]:
    """LoRA gradients by name; cleared in the model."""
    grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return grads
