"""The commands of ``gae-deferred``: its own, and those that other distributions add by entry points."""

from importlib.metadata import entry_points

import click

from gae_deferred.cli.dead_letters import dead_letters_group
from gae_deferred.cli.queues import COMMANDS
from gae_deferred.cli.sweep import sweep
from gae_deferred.version import __version__

PLUGINS = "gae_deferred.commands"
"""Group of entry points that add a command each: the name of the command, and a click command as the value."""

_LOCAL_CLOUD = ("data", "dev", "emulators")
"""Commands that the distribution gae-local-cloud adds."""


class _Commands(click.Group):
    """A group that loads a plug-in when its command runs, or when the help lists it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *entry_points(group=PLUGINS).names})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        for plugin in entry_points(group=PLUGINS, name=cmd_name):
            command: click.Command = plugin.load()
            return command
        if cmd_name in _LOCAL_CLOUD:
            ctx.fail(
                f"The command {cmd_name!r} comes with the distribution gae-local-cloud, which is not installed. "
                "Install gae-deferred[local]; in a clone of the repository: pip install ./local-cloud './lib[local]'"
            )
        return None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="gae-deferred")
def main() -> None:
    """Manage deferred tasks. With gae-local-cloud installed, also run apps on a local cloud."""


main.add_command(sweep)
main.add_command(dead_letters_group)
for _command in COMMANDS:
    main.add_command(_command)
