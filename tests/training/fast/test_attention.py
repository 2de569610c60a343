"""Attention over segments: what is kept for backward, and PyTorch's public function in place of the dense one."""

import inspect
import weakref
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from candletune.training.fast import attention
from candletune.training.fast.attention import attend, attend_and_save, attend_backward
from candletune.training.fast.packing import PackedBatch, Segments, pack

HEADS, KV_HEADS, SIZE = 4, 2, 8
ROWS = [(1, 5, 6, 7, 8, 9), (1, 5, 6, 3), (1, 5, 6, 2, 2, 4, 4)]
Function = Callable[..., Tensor]


def drawn(tokens: int, heads: int) -> Tensor:
    return torch.randn(tokens, heads, SIZE, dtype=torch.float64, requires_grad=True)


def one_by_one(queries: Tensor, keys: Tensor, values: Tensor, packed: PackedBatch) -> Tensor:
    """Each token's softmax over the tokens before it, prefix included, written out."""
    where: list[list[int]] = [list(range(place + 1)) for place in range(packed.prefix)]
    start = packed.prefix
    for row in ROWS:
        own = len(row) - packed.prefix
        where += [[*range(packed.prefix), *range(start, start + place + 1)] for place in range(own)]
        start += own
    outputs = []
    for token, seen in enumerate(where):
        groups = []
        for head in range(HEADS):
            shared = head // (HEADS // KV_HEADS)
            weights = (keys[seen, shared] @ queries[token, head] * SIZE**-0.5).softmax(0)
            groups.append(weights @ values[seen, shared])
        outputs.append(torch.stack(groups))
    return torch.stack(outputs)


def like_varlen() -> tuple[Function, list[tuple[int, ...]]]:
    """A differentiable operator with `varlen_attn`'s arguments, and the sizes of what it was asked for."""
    asked: list[tuple[int, ...]] = []

    def varlen(
        query: Tensor, key: Tensor, value: Tensor, cu_q: Tensor, cu_k: Tensor, max_q: int, max_k: int, **more: Any
    ) -> Tensor:
        assert more["scale"] == SIZE**-0.5
        asked.append((len(query), len(key), max_q, max_k))
        apply: Any = Varlen.apply
        return cast(Tensor, apply(query, key, value, cu_q, cu_k))

    return varlen, asked


class Varlen(torch.autograd.Function):
    """Saves queries, keys, values and the output, as PyTorch's operator does."""

    @staticmethod
    def compute(query: Tensor, key: Tensor, value: Tensor, cu_q: Tensor, cu_k: Tensor) -> Tensor:
        parts = []
        for number in range(len(cu_q) - 1):
            q, k = slice(int(cu_q[number]), int(cu_q[number + 1])), slice(int(cu_k[number]), int(cu_k[number + 1]))
            late = (k.stop - k.start) - (q.stop - q.start)
            mask = torch.ones(q.stop - q.start, k.stop - k.start, dtype=torch.bool).tril(late)
            repeat = query.shape[1] // key.shape[1]
            scores = torch.einsum("qhd,khd->hqk", query[q], key[k].repeat_interleave(repeat, 1)) * SIZE**-0.5
            weights = scores.masked_fill(~mask, -torch.inf).softmax(-1)
            parts.append(torch.einsum("hqk,khd->qhd", weights, value[k].repeat_interleave(repeat, 1)))
        return torch.cat(parts)

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> Tensor:
        out = Varlen.compute(inputs[0], inputs[1], inputs[2], inputs[3], inputs[4])
        ctx.save_for_backward(*inputs, out)
        return out

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, cu_q, cu_k, kept = ctx.saved_tensors
        with torch.enable_grad():
            leaves = [part.detach().requires_grad_() for part in (query, key, value)]
            out = Varlen.compute(leaves[0], leaves[1], leaves[2], cu_q, cu_k)
            assert torch.equal(out, kept)
        return *torch.autograd.grad(out, leaves, grad[0]), None, None


@pytest.fixture(params=["dense", "varlen"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """With `varlen`, the public function stands in for the dense one."""
    if request.param == "dense":
        return []
    varlen, asked = like_varlen()
    monkeypatch.setattr(attention, "flash_usable", lambda _: True)
    monkeypatch.setattr(attention, "public_varlen", lambda: varlen)
    return asked


def test_attention_and_its_gradients(kind: list[tuple[int, ...]]) -> None:
    torch.manual_seed(0)
    packed = pack(ROWS, [1, 1, 1], torch.device("cpu"))
    assert packed.prefix == 3
    inputs = [drawn(packed.tokens, heads) for heads in (HEADS, KV_HEADS, KV_HEADS)]
    wanted = one_by_one(inputs[0], inputs[1], inputs[2], packed)
    grad = torch.randn_like(wanted)
    wanted_grads = torch.autograd.grad(wanted, inputs, grad)
    with torch.no_grad():
        torch.testing.assert_close(attend(inputs[0], inputs[1], inputs[2], packed.segments), wanted)
        saved = attend_and_save(inputs[0], inputs[1], inputs[2], packed.segments)
        torch.testing.assert_close(saved.out, wanted)
        for found, expected in zip(attend_backward(grad, saved), wanted_grads, strict=True):
            torch.testing.assert_close(found, expected)
    if kind:
        segments = packed.segments
        assert set(kind) == {(packed.tokens, sum(segments.keys), max(segments.queries), max(segments.keys))}


def test_the_last_layers_queries_are_the_target_positions(kind: list[tuple[int, ...]]) -> None:
    torch.manual_seed(0)
    packed = pack(ROWS, [2, 1, 3], torch.device("cpu"))
    inputs = [drawn(packed.tokens, heads) for heads in (HEADS, KV_HEADS, KV_HEADS)]
    wanted = one_by_one(inputs[0], inputs[1], inputs[2], packed)[packed.target_index]
    grad = torch.randn_like(wanted)
    wanted_grads = torch.autograd.grad(wanted, inputs, grad)
    saved = attend_and_save(inputs[0][packed.target_index], inputs[1], inputs[2], packed.last_segments)
    torch.testing.assert_close(saved.out, wanted)
    grads = attend_backward(grad, saved)
    torch.testing.assert_close(grads[0], wanted_grads[0][packed.target_index])
    for found, expected in zip(grads[1:], wanted_grads[1:], strict=True):
        torch.testing.assert_close(found, expected)


def test_gathered_keys_are_not_kept(kind: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    """They hold the prefix once a row: they are gathered again in backward, and a dropped result leaves nothing."""
    packed = pack(ROWS, [1, 1, 1], torch.device("cpu"))
    inputs = [drawn(packed.tokens, heads).detach() for heads in (HEADS, KV_HEADS, KV_HEADS)]
    sources: list[int] = []
    real = Segments.gather

    def gather(segments: Segments, part: Tensor) -> Tensor:
        sources.append(part.data_ptr())
        return real(segments, part)

    monkeypatch.setattr(Segments, "gather", gather)
    saved = attend_and_save(inputs[0], inputs[1], inputs[2], packed.segments)
    keys_and_values = [part.data_ptr() for part in inputs[1:]]
    assert sources == keys_and_values
    attend_backward(torch.ones_like(saved.out), saved)
    assert sources == keys_and_values * 2, "the graph kept gathered keys or values"
    out = weakref.ref(saved.out)
    del saved
    assert out() is None, "the output is held by its own graph"


def test_the_installed_public_function_takes_what_it_is_given() -> None:
    """Its name and arguments may change from one torch to the next; the private operators are then used unnoticed."""
    varlen = pytest.importorskip("torch.nn.attention.varlen", reason="this torch has no varlen_attn")
    known = inspect.signature(varlen.varlen_attn).parameters
    if not {"window_size", "scale"} <= set(known):
        assert attention.public_varlen.__wrapped__() is None
        pytest.skip("this torch's varlen_attn has no window")
    assert list(known)[:7] == ["query", "key", "value", "cu_seq_q", "cu_seq_k", "max_q", "max_k"]
    chosen: Any = attention.public_varlen.__wrapped__()
    assert chosen.func is varlen.varlen_attn
    assert chosen.keywords["window_size"] == (-1, 0), "causal, aligned at the lower right"
    assert ("enable_gqa" in chosen.keywords) == ("enable_gqa" in known)
