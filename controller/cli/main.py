"""`rondel`: a table of commands; only the one that is asked for is imported."""

import os
import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from controller import collector
from controller.cli.exit import Exit
from controller.errors import RondelError

COMMANDS: dict[str, tuple[str, str, str]] = {  # name -> module, function, what it does
    "serve": ("serve", "serve", "Run the controller in the foreground."),
    "check": ("check", "check", "Look whether everything a controller needs is there."),
    "version": ("version", "version", "Print the version."),
    "init": ("author", "init", "Write a small configuration and a first workflow."),
    "validate": ("author", "validate", "Check manifests: every fault at once."),
    "render": ("author", "render", "Print a manifest as it will be used."),
    "schema": ("author", "schema", "Print the JSON Schema of a kind."),
    "graph": ("author", "graph", "Show which step waits for which."),
    "exec": ("execute", "exec_", "Run a workflow here and now, with live output."),
    "plan": ("plan", "plan", "Say what would run, and why, between two revisions."),
    "get": ("get", "get", "List sources, workflows, runs, schedules, results, events or agents."),
    "describe": ("describe", "describe", "Tell the story of a source, a workflow or a run."),
    "logs": ("logs", "logs", "Print or follow the log of a run."),
    "explain": ("explain", "explain", "Say of each step whether it ran, and why no result served."),
    "cache": ("cache", "cache", "Look after the kept results of steps."),
    "schedule": ("schedule", "schedule", "List the slots to come."),
    "wait": ("wait", "wait", "Wait until something is ready or finished."),
    "run": ("act", "run", "Start a run of a workflow."),
    "retry": ("again", "retry", "Go on with a run that ended badly."),
    "rerun": ("again", "rerun", "Run again exactly what a run recorded."),
    "backfill": ("backfill", "backfill", "Run once for each slot of a span of time."),
    "cancel": ("act", "cancel", "Cancel a run, or a whole backfill."),
    "suspend": ("suspend", "suspend", "Keep a workflow from starting, or a source as it is."),
    "resume": ("suspend", "resume", "Let it start again what is due."),
    "reconcile": ("act", "reconcile", "Have a source looked at now."),
    "db": ("db", "db", "Back the store up, put it back, look through it, bring it up to date."),
    "drain": ("drain", "drain", "Start no run any more; let those that run end."),
    "token": ("token", "token", "Make, list and remove tokens for the API's TCP listener."),
}


GROUPS = {
    "cache": ("ls", "show", "rm", "prune"),
    "token": ("create", "ls", "rm"),
    "db": ("backup", "restore", "verify", "upgrade"),
}
"""Commands that are several; each is a function of the command's module."""


# typer carries a click of its own and doesn't export this base of its errors.
WrongWords: Any = next(
    one for one in typer.BadParameter.__mro__ if one.__name__ == "ClickException"
)


class Table(TyperGroup):
    """The group of all commands, by their table."""

    def list_commands(self, ctx: Any) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, function, _ = COMMANDS[cmd_name]
        with collector.off():
            found = import_module(f"controller.cli.{module}")
        if cmd_name in GROUPS:
            return several(found, getattr(found, function), GROUPS[cmd_name])
        return one(cmd_name, getattr(found, function))

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the table; no command is imported for it."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, told) for name, (_, _, told) in COMMANDS.items()])


def one(name: str, function: Callable[..., Any]) -> Any:
    app = typer.Typer(rich_markup_mode=None, add_completion=False)
    app.command(name, help=function.__doc__)(function)
    return get_command(app)


def several(module: ModuleType, function: Callable[..., Any], names: tuple[str, ...]) -> Any:
    app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)
    app.callback(help=function.__doc__)(function)
    for name in names:
        app.command(name)(getattr(module, name))
    return get_command(app)


app = typer.Typer(
    cls=Table,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def rondel(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Rondel: GitOps for Dagger. Workflows in Git, run on schedules and on change.

    Example: rondel serve --source ./workflows --executor local
    """
    del debug  # read by `main`, wherever it stands


def main() -> None:
    """Run the command line; every error is a line or two, and an exit code."""
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    try:
        code = app(standalone_mode=False) or Exit.OK
    except WrongWords as error:
        error.show()
        code = Exit.USAGE
    except (typer.Abort, KeyboardInterrupt):
        code = Exit.INTERRUPTED
    except BrokenPipeError:
        # Whoever read us has seen enough; nothing is left to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = Exit.OK
    except RondelError as error:
        if debug:
            raise
        print(f"rondel: {error}", file=sys.stderr)
        code = error.exit_code
    sys.exit(int(code))


if __name__ == "__main__":
    main()
