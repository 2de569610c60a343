"""What became of each coin, on a terminal."""

from io import StringIO

from candletune.artifacts.coins import Coins
from candletune.report.text import interval, number, percent, points

WIDTH = 96


def coins_text(found: Coins) -> str:
    """The table, and what it says."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title="Each coin by a training that saw it, and by one that never did", title_justify="left")
    table.add_column("coin")
    for name in ("right, seen", "unseen", "gain", "interval", "balanced, seen", "unseen", "p, Holm"):
        table.add_column(name, justify="right")
    for coin in found.coins:
        table.add_row(
            escape(coin.ticker),
            percent(coin.seen.accuracy_signals),
            percent(coin.unseen.accuracy_signals),
            points(coin.gain.value),
            interval(coin.gain.bounds, signed=True).replace("\N{NO-BREAK SPACE}%", ""),
            percent(coin.seen.balanced_accuracy),
            percent(coin.unseen.balanced_accuracy),
            number(coin.adjusted, 3),
        )
    out = StringIO()
    console = Console(file=out, width=WIDTH, force_terminal=False, highlight=False)
    console.print(table)
    console.print(sentence(found), markup=False)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def sentence(found: Coins) -> str:
    """What was found, for people."""
    worse = [coin.ticker for coin in found.coins if coin.finding == "worse"]
    better = [coin.ticker for coin in found.coins if coin.finding == "better"]
    silent = [coin.ticker for coin in found.coins if coin.adjusted is None]
    told = []
    if worse:
        told.append(f"clearly worse on {', '.join(worse)} when training never saw it")
    if better:
        told.append(f"clearly better on {', '.join(better)} when training never saw it")
    if silent:
        told.append(f"nothing can be said of {', '.join(silent)}")
    if not worse and not better and len(silent) < len(found.coins):
        told.append("no clear difference on any coin, which does not show that there is none")
    text = "; ".join(told)
    return f"{text[:1].upper()}{text[1:]}."
