"""The reference has every public name and command. Needs the built site: `python3 run.py docs --check`."""

import importlib
import re
from pathlib import Path

import click
import pytest

from gae_deferred.cli.group import main

SITE = Path(__file__).parents[2] / "build/site"
MODULES = ("gae_deferred", "gae_deferred.deferred", "gae_deferred.errors", "gae_deferred.testing")
ELSEWHERE = {
    "gae_deferred.__version__": "an attribute without a docstring",
    "gae_deferred.deferred": "a module of its own",
    "gae_deferred.errors": "a module of its own",
}


def public_names(module_name: str) -> list[str]:
    module = importlib.import_module(module_name)
    names = getattr(module, "__all__", None) or [
        name for name, value in vars(module).items() if isinstance(value, type) and value.__module__ == module_name
    ]
    return [full for name in names if (full := f"{module_name}.{name}") not in ELSEWHERE]


def commands(command: click.Command, name: str) -> list[str]:
    """Return the full names of a command and of all below it."""
    if not isinstance(command, click.Group):
        return [name]
    context = click.Context(command)
    below = {sub: command.get_command(context, sub) for sub in command.list_commands(context)}
    return [name, *(full for sub, found in below.items() if found for full in commands(found, f"{name} {sub}"))]


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_in_the_api(module: str):
    page = (SITE / "reference/api.html").read_text(encoding="utf-8")
    documented = set(re.findall(r'id="(gae_deferred[\w.]+)"', page))
    names = public_names(module)
    assert names
    assert [name for name in names if name not in documented] == []


def test_every_command_is_in_the_reference():
    page = (SITE / "reference/commands.html").read_text(encoding="utf-8")
    ids = set(re.findall(r'id="([\w-]+)"', page))
    names = commands(main, "gae-deferred")
    assert "gae-deferred dead-letters resend" in names
    assert [name for name in names if name.replace(" ", "-") not in ids] == []
