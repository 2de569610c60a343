"""Hostile prompt templates: checked and rendered, or refused in a line; never for long, never large, never more."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from candletune.fields.registry import EXAMPLE, RAW_NAMES, TEMPLATE_NAMES
from candletune.prompts.operations import TEXT_LIMIT
from candletune.prompts.template import packaged_path, parse_template
from fuzz.damage import TEXTS, damaged
from fuzz.driver import Check, Target

PACKAGED = packaged_path().read_text(encoding="utf-8")
SHOWN = "{{ ticker }} {{ price_usd }} {{ rsi }}\n"
DEMAND = "\nDECISION: [BUY/SELL/HOLD] - [reason]"
ATOMS = (
    *("'a'", "'a' * 10**10", "10**10**10", "2**2**2", "1/0", "-1", "none", "loop", "self", "range(10**9)", "cycler"),
    *("''.__class__", "ticker.__init__", "raw", "raw.rsi", "raw.nothing", "raw['rsi']", "raw.headlines", "lipsum()"),
    *("'%9999d'|format(1)", "'{:>9999}'.format('x')", "'{0.__class__}'.format(1)", "'%*d' % (9999, 1)", "[1, 2]", "{}"),
    *("'a,b'.split(',')", "rsi|upper", "raw.rsi|fmt('.2f')", "raw.rsi|fmt('99999d')", "'a'|replace('', 'b' * 999)"),
    *("'x'.join('abc')", "namespace()", "caller()", "request", "config", "joiner()", "dict(a=1)", "x.y.z", "1e999"),
)
STATEMENTS = (
    "{% for a in raw.headlines %}%s{% endfor %}",
    "{% for a in 'aaaaaaaaaaaaaaaaaaaa' %}%s{% endfor %}",
    "{% if %s %}x{% endif %}",
    "{% set a = %s %}{{ a }}",
    "{% macro m() %}%s{% endmacro %}{{ m() }}",
    "{% include %s %}",
    "{% extends %s %}",
    "{% block b %}%s{% endblock %}",
    "{% raw %}%s{% endraw %}",
    "{% filter upper %}%s{% endfilter %}",
    "{# %s #}",
    "{{ %s",
    "%s }}",
    "{% import 'os' as %s %}",
)


def expression(rng: random.Random, depth: int = 3) -> str:
    atoms = (*ATOMS, *TEMPLATE_NAMES, *(f"raw.{name}" for name in RAW_NAMES))
    if not depth or rng.random() < 0.3:
        return rng.choice(atoms)
    left, right = expression(rng, depth - 1), expression(rng, depth - 1)
    operator = rng.choice("+ - * / // % ** ~ == < in and or is".split())
    return rng.choice(
        (f"({left}) {operator} ({right})", f"{left} if {right} else 'x'", f"[{left}, {right}]", f"not {left}")
    )


def printed(text: str) -> str:
    return "{{ " + text + " }}"


def make(rng: random.Random) -> str:
    """The packaged template, damaged; or expressions and statements of all kinds."""
    way = rng.randrange(6)
    if way == 0:
        return damaged(rng, PACKAGED.encode()).decode("utf-8", "replace")
    if way == 1:
        inner = printed(expression(rng))
        for _ in range(rng.choice((1, 3, 30))):
            inner = rng.choice(STATEMENTS[:4]).replace("%s", inner)
        return SHOWN + inner + DEMAND
    if way == 2:
        return SHOWN + rng.choice(
            ("{{ " + "(" * 5_000, "{{ " + "[" * 20_000, "{% if 1 %}" * 3_000, "{{ -" + "-" * 9_000 + "1 }}")
        )
    if way == 3:
        return SHOWN + rng.choice(TEXTS) * rng.choice((1, 100)) + printed(expression(rng, 1)) + DEMAND
    parts = [
        rng.choice(STATEMENTS).replace("%%", "%").replace("%s", rng.choice((expression(rng), printed(expression(rng)))))
        for _ in range(rng.randint(1, 4))
    ]
    return SHOWN + "".join(parts) + printed(expression(rng)) + DEMAND


@contextmanager
def opened(_: Path) -> Iterator[Check[str]]:
    def check(case: str) -> str:
        template = parse_template("t.j2", case)
        prompt = template.render(EXAMPLE)
        assert len(prompt) <= TEXT_LIMIT
        assert template.render(dict.fromkeys(EXAMPLE)) is not None
        assert "<built-in" not in prompt
        assert "<class" not in prompt
        return "rendered"

    yield check


TARGET = Target(make=make, opened=opened)
