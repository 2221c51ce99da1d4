"""The command line: one module a command, each imported only when it is run."""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import Any, Final

import click

from oneself import __version__
from oneself.errors import OneselfError

__all__ = ["COMMANDS", "main"]

COMMANDS: Final = {
    "serve": ("oneself.commands.serve:serve", "Run the server."),
    "check": ("oneself.commands.check:check", "Validate a configuration file."),
    "resolve": ("oneself.commands.resolve:resolve", "Answer identity requests without a server, with their traces."),
    "why": ("oneself.commands.why:why", "Tell the decisions behind a profile or a request, in words."),
    "import": ("oneself.commands.import_:import_", "Take in files of profile updates and events."),
    "export": ("oneself.commands.export:export", "Write profiles and events to a file."),
    "copy": ("oneself.commands.copy:copy", "Move everything to another folder or database, and prove it."),
    "replay": ("oneself.commands.replay:replay", "Prove that the live state is what the journal says; look back."),
    "undo": ("oneself.commands.undo:undo", "Take decisions back, as if they had never been made."),
    "split": ("oneself.commands.split:split", "Move identities off a user into a new one."),
    "whatif": ("oneself.commands.whatif:whatif", "Try another configuration on the recorded history."),
    "policy": ("oneself.commands.policy:policy", "List, promote and restore the policies of scopes."),
    "guards": ("oneself.commands.guards:guards", "Report what was held off, and what looks shared by many."),
    "bench": ("oneself.commands.bench:bench", "Run the benchmarks."),
}
"""Each command's place, ``MODULE:ATTRIBUTE``, and its line in ``oneself --help``."""


class _Commands(click.Group):
    """A group that imports a command only when it is run, and shows an ``OneselfError`` as a plain message."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        close = difflib.get_close_matches(args[0], COMMANDS, 1)
        if args[0] not in COMMANDS and close:
            ctx.fail(f"No such command '{args[0]}'. Did you mean '{close[0]}'?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except OneselfError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="oneself")
def main() -> None:
    """Oneself resolves identities and keeps customer profiles: every decision explained, durable and reversible.

    \b
    Example:
      oneself serve --data ./oneself-data
    """
