"""The command table, and the one place where errors become exit codes. Heavy imports stay in the handlers."""

import os
import sys
from importlib import import_module
from typing import Any, NamedTuple, NoReturn

import click

from candletune import __version__
from candletune.commands import LOG_JSON, SuggestingGroup, logs_json
from candletune.commands.result import SAID, say_error
from candletune.errors import CandletuneError, InputError
from candletune.process import interrupt_on_sigterm, machine_says, utf8_streams
from candletune.stages import STAGES

COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("setup:init", "Write a commented candletune.toml."),
    "doctor": ("setup:doctor", "Check GPU, memory, disk, versions and access to the base model."),
    "fetch": ("fetch:fetch", "Bring candles or the Fear & Greed history (optional extra)."),
    "simulate": ("simulate:simulate", "A market with a known answer as files: candles, and news."),
    **{name: (f"stages:{name}", short) for name, short in STAGES.items()},
    "train": ("train:train", STAGES["train"]),
    "run": ("run:run", "The whole pipeline, skipping what is up to date."),
    "sweep": ("sweep:sweep", "Try settings on the eval split, and name one winner."),
    "compare": ("compare:compare", "Runs side by side, in the terminal and on one page."),
    "retrain": ("retrain:retrain", "Train again on new candles, against the active adapter; for schedulers."),
    "walk": ("walk:walk", "A training before each period of the history, one verdict over all."),
    "coins": ("coins:coins", "Each coin left out of training in turn: does it carry over to a coin never seen?"),
    "demo": ("demo:demo", "The whole pipeline on a simulated market and a tiny model; no GPU, no network."),
    "signal": ("live:signal", "One JSON context in, one JSON decision out."),
    "serve": ("live:serve", "The same over HTTP on loopback."),
    "shadow": ("shadow:shadow", "The incumbent acts, the candidate is only logged."),
    "journal": ("journal:journal", "Import an A/B log of your own; check and repair a journal."),
    "ui": ("ui:ui", "Every run on one local page: training as it goes, report, review, live, comparison."),
    "review": ("review:review", "Blind review of the reasonings, on a local page."),
    "template": ("template:template", "Show, check or make a prompt template."),
    "status": ("status:status", "Runs, adapters, certificates and which one is active."),
    "drift": ("drift:drift", "Whether the promoted model is still what it was judged to be."),
    "promote": ("live:promote", "Make the candidate active (needs a verdict of promote)."),
    "rollback": ("live:rollback", "Go back to the adapter that was active before."),
    "completion": ("completion:completion", "What makes bash, zsh or fish complete commands and keys."),
}
"""name -> (module in candletune.commands : click command, short help)"""


class LazyGroup(SuggestingGroup):
    """A click group that imports a command only when it is invoked or its own help is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The pipeline's order, not the alphabet's."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module that holds the command."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name][0].split(":")
        command: click.Command = getattr(import_module(f"candletune.commands.{module}"), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table from `COMMANDS`, without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, short) for name, (_, short) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with `candletune demo`, or `candletune init` and then `candletune run`.",
)
@click.version_option(__version__, prog_name="candletune")
def program() -> None:
    """Turn a trader's candles into a local model that says BUY, SELL or HOLD, and find out whether it deserves to act.

    Exit codes: 0 done; 1 an internal error; 2 bad usage or configuration; 3 bad input data; 4 a check said no;
    130 interrupted (Ctrl-C or SIGTERM; the same command goes on where it was).
    """


def main(argv: list[str] | None = None) -> NoReturn:
    """Run the program and leave with DESIGN's exit codes; a traceback only with --debug."""
    utf8_streams()
    interrupt_on_sigterm()
    arguments = sys.argv[1:] if argv is None else argv
    debug = "--debug" in arguments or bool(os.environ.get("CANDLETUNE_DEBUG"))
    if "--log-json" in arguments:
        os.environ[LOG_JSON] = "1"
    sys.exit(
        _run([a for a in arguments if a not in ("--debug", "--log-json")], debug, Output("--json" in arguments, {}))
    )


def _usage_line(error: click.ClickException) -> str:
    """click's error in one line, with where to read on."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    where = f" (`{context.command_path} --help` shows how)" if context else ""
    return f"error: {' '.join(error.format_message().split()).removesuffix('.')}{where}"


def _error_line(text: str) -> str:
    return f"error: {' '.join(text.split())}"


class Output(NamedTuple):
    """What goes to standard output: JSON or not, and whether a command has said its result there (`SAID`)."""

    as_json: bool
    state: dict[str, bool]


def _say(text: str, code: int, output: Output) -> int:
    """Lines for people; for a script that asked for JSON the same as an object, so that standard output has one."""
    if logs_json():
        from candletune.console import log_line

        log_line("error", text.removeprefix("error: "))
    else:
        from candletune.console import from_here

        click.echo(from_here(text), err=True)
    if output.as_json and not output.state.get(SAID):
        say_error(text.removeprefix("error: "), code)
    return code


def _run(arguments: list[str], debug: bool, output: Output) -> int:
    try:
        result: Any = program.main(args=arguments, prog_name="candletune", standalone_mode=False, obj=output.state)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except click.ClickException as error:
        if debug:
            raise
        return _say(_usage_line(error), 2, output)
    except (KeyboardInterrupt, click.Abort):
        return _say("interrupted; run the same command again to resume", 130, output)
    except BrokenPipeError:
        # The reader went away (`| head`): not an error, but the interpreter must not flush into the closed pipe.
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123
        return 0
    except CandletuneError as error:
        if debug:
            raise
        return _say("\n".join(map(_error_line, error.lines)), error.exit_code, output)
    except Exception as error:
        if debug:
            raise
        return _unexpected(error, output)


def _unexpected(error: Exception, output: Output) -> int:
    """What no code foresaw: a refusal of the machine is one for the user to mend, anything else our mistake."""
    if (text := machine_says(error)) is not None:
        return _say(_error_line(text), InputError.exit_code, output)
    said = f"internal error: {type(error).__name__}: {' '.join(str(error).split())} (--debug shows where)"
    return _say(said, 1, output)
