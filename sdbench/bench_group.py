"""`sdbench bench`: a suite by its name, or another benchmark by its own.

`sdbench bench tiny --seeds 3` runs a suite; `sdbench bench critics ...` runs a subcommand. Whatever
does not begin with the name of a subcommand goes to the one called `suite`, so that a suite needs no
word before its name; its options are shown by the group's own `--help`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from typer.core import TyperGroup

if TYPE_CHECKING:
    from typer._click.core import Context
    from typer._click.formatting import HelpFormatter

SUITE = "suite"


class BenchGroup(TyperGroup):
    """See the module."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Puts the subcommand's name before what belongs to a suite."""
        own = {*self.commands, *ctx.help_option_names}
        return super().parse_args(ctx, args if args and args[0] in own else [SUITE, *args])

    def format_usage(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Both ways to call it."""
        formatter.write_usage(ctx.command_path, f"{SUITE.upper()} [OPTIONS]")
        for name in self._others():
            formatter.write_usage(ctx.command_path, f"{name} [OPTIONS]", "   or: ")

    def format_options(self, ctx: Context, formatter: HelpFormatter) -> None:
        """The options of a suite, then the other benchmarks."""
        self.commands[SUITE].format_options(ctx, formatter)
        with formatter.section("Other benchmarks, each with its own --help"):
            formatter.write_dl(
                [(name, self.commands[name].get_short_help_str(200)) for name in self._others()]
            )

    def _others(self) -> list[str]:
        return [name for name in self.commands if name != SUITE]
