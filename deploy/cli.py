"""The command line `python -m deploy`: the group of all commands, and the exit code of each error."""

import importlib
from typing import Any

import click

from deploy.errors import DeployError

_COMMANDS = {
    "stage": "deploy.commands.deploy:stage_command",
    "deploy": "deploy.commands.deploy:deploy_command",
    "e2e": "deploy.commands.e2e:e2e_command",
    "clean-up": "deploy.commands.e2e:clean_up_command",
    "rehearse": "deploy.commands.rehearse:rehearse",
    "infra": "deploy.commands.infra:infra",
}


_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 120, "show_default": True}


class _Commands(click.Group):
    """Imports a command when it is called, since each needs other packages: `infra` needs click alone."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command. An error ends it with the error's message and exit code, and Ctrl-C with 130."""
        try:
            return super().invoke(ctx)
        except DeployError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            ctx.exit(130)


@click.group(cls=_Commands, context_settings=_SETTINGS)
def main() -> None:
    """Prepare a Google Cloud project, deploy an app to App Engine, and test it there.

    Exit codes: 0 success; 1 a deploy, a test or Terraform failed; 2 an option or a resource is missing, and nothing was
    deployed; 3 the tests passed, but clean-up failed; 130 Ctrl-C.
    """
