"""The groups of commands, and the root that loads one when it is called.

A group is a module with a `typer.Typer` called ``app``. To add one, write the module and its line
in ``GROUPS``. Help of the root loads none of them.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

from huleedu_service_libs._extras import requires_extra

with requires_extra("cli", module=__name__):
    from typer.core import TyperGroup
    from typer.main import get_group

__all__ = ["GROUPS", "Group", "LazyGroups"]


class Group(NamedTuple):
    """Where a group lives, and its line in the root's help."""

    module: str
    help: str


GROUPS: Mapping[str, Group] = {
    "breakers": Group("huleedu_service_libs.cli.breakers", "Circuit breakers of a running service."),
    "dead-letters": Group("huleedu_service_libs.cli.dead_letters", "Dead-letter topics: list, show, redrive."),
    "outbox": Group("huleedu_service_libs.cli.outbox", "A service's outbox: status, parked events, purge, checks."),
}


class LazyGroups(TyperGroup):
    """The root: its sub-commands are the groups, imported on their first use."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names for the help text."""
        return sorted({*super().list_commands(ctx), *GROUPS})

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """For the help text: name and help are enough."""
        group = GROUPS.get(cmd_name)
        return super().get_command(ctx, cmd_name) if group is None else TyperGroup(name=cmd_name, help=group.help)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """To call it: here the module is imported.

        Raises:
            MissingExtraError: It needs a package that is not installed.
        """
        group = GROUPS.get(args[0])
        if group is None:
            return super().resolve_command(ctx, args)
        return args[0], get_group(import_module(group.module).app), args[1:]
