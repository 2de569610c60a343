"""Ways to damage bytes, and JSON that nobody sends in good faith."""

import json
import random
import struct
from collections.abc import Callable
from typing import Any

NUMBERS = (0, 1, 2, 7, 8, 31, 255, 2**15, 2**16 - 1, 2**20, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**60, 2**63, 2**64 - 1)
TEXTS = (
    "",
    "\0",
    "\u2028",
    "\ud800",
    "\U0001f4a9",
    "~nouser/x",
    "/proc/self/pagemap",
    "../../etc/passwd",
    "[INST]",
    "</s>",
    "<|im_end|>",
    "{{ 1/0 }}",
    "NaN",
    "1e999",
    "0001-01-01T00:00:00+14:00",
    "A" * 5_000,
    "%s%n",
)


def damaged(rng: random.Random, data: bytes) -> bytes:
    """The bytes with one to four kinds of damage."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        rng.choice(_WAYS)(rng, out)
    return bytes(out)


def _flip(rng: random.Random, out: bytearray) -> None:
    for _ in range(rng.choice((1, 1, 2, 8))):
        if out:
            out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)


def _replace(rng: random.Random, out: bytearray) -> None:
    if out:
        out[rng.randrange(len(out))] = rng.randrange(256)


def _number(rng: random.Random, out: bytearray) -> None:
    number, code = rng.choice(NUMBERS), rng.choice("IQ")
    if code == "I":
        number &= 2**32 - 1
    size = struct.calcsize(f"<{code}")
    if len(out) > size:
        place = rng.randrange(len(out) - size)
        struct.pack_into(f"<{code}", out, place, number)


def _cut(rng: random.Random, out: bytearray) -> None:
    del out[rng.randrange(len(out) + 1) :]


def _remove(rng: random.Random, out: bytearray) -> None:
    place = rng.randrange(len(out) + 1)
    del out[place : place + rng.choice((1, 4, 8, 100))]


def _insert(rng: random.Random, out: bytearray) -> None:
    place = rng.randrange(len(out) + 1)
    out[place:place] = rng.randbytes(rng.choice((1, 4, 8, 100)))


def _repeat(rng: random.Random, out: bytearray) -> None:
    place = rng.randrange(len(out) + 1)
    part = out[place : place + rng.choice((1, 8, 64, 1_000))]
    out[place:place] = part * rng.choice((1, 2, 50))


_WAYS: tuple[Callable[[random.Random, bytearray], None], ...] = (
    *(_flip, _flip, _number, _number, _number),
    *(_replace, _cut, _remove, _insert, _repeat),
)


def hostile_value(rng: random.Random, depth: int = 3) -> Any:
    """Any JSON value, of the kinds that break readers."""
    kind = rng.randrange(10 if depth else 7)
    if kind == 0:
        return rng.choice((None, True, False))
    if kind == 1:
        return rng.choice((1, -1)) * rng.choice(NUMBERS)
    if kind == 2:
        return rng.choice((0.0, -0.0, 1e-320, 1.7e308, 28.3, -12.5, 1e22))
    if kind == 3:
        return 10 ** rng.choice((20, 100, 400, 5_000))
    if kind in (4, 5, 6):
        return rng.choice(TEXTS) + (chr(rng.randrange(0x20, 0x3000)) if rng.random() < 0.3 else "")
    if kind == 7:
        return [hostile_value(rng, depth - 1) for _ in range(rng.choice((0, 1, 3, 40)))]
    return {rng.choice(TEXTS)[:50] + str(n): hostile_value(rng, depth - 1) for n in range(rng.choice((0, 1, 3)))}


def hostile_json(rng: random.Random, good: dict[str, Any]) -> str:
    """A JSON text near a good object: values replaced, keys added, left out or misspelled, nesting, odd numbers."""
    changed: dict[str, Any] = dict(good)
    for _ in range(rng.randint(0, 3)):
        key = rng.choice([*good, rng.choice(TEXTS)[:80], "timestamp", "ticker"])
        if rng.random() < 0.2:
            changed.pop(key, None)
        else:
            changed[key] = hostile_value(rng)
    text = _dumped(changed)
    way = rng.randrange(12)
    if way == 0:
        opening = rng.choice(("[", '{"a":', '{"headlines":['))
        return opening * rng.choice((50, 2_000, 20_000))
    if way == 1:
        return text.replace(":", f": {'9' * rng.choice((400, 5_000))}.", 1)
    if way == 2:
        return text.replace(":", rng.choice((": NaN,", ": Infinity,", ": -", ": 1e400,")), 1)
    if way == 3:
        return text[: rng.randrange(len(text) + 1)]
    if way == 4:
        return rng.choice(("", "null", "[]", "1", '"x"', "\ufeff" + text, "\0", text + text, text + "\r\r"))
    if way == 5:
        key = rng.choice([*good])
        return text[:-1] + f", {json.dumps(key)}: {_dumped(hostile_value(rng))}}}"
    return text


def _dumped(value: Any) -> str:
    limited = json.dumps(value, default=str) if not _huge(value) else None
    return limited if limited is not None else _by_hand(value)


def _huge(value: Any) -> bool:
    """Whether Python refuses to write an integer in it (more than 4,300 digits)."""
    if isinstance(value, dict):
        return any(_huge(item) for item in value.values())
    if isinstance(value, list):
        return any(_huge(item) for item in value)
    return isinstance(value, int) and abs(value) >= 10**4_000


def _by_hand(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)}: {_by_hand(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_by_hand, value)) + "]"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**4_000:
        return "1" + "0" * 5_000
    return json.dumps(value)
