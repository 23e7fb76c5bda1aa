"""The command line: help, plug-ins, and messages about missing distributions."""

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from gae_deferred.cli import command as installed
from gae_deferred.cli import group
from gae_deferred.cli.group import main
from gae_local_cloud.cli import main as local_cloud


@pytest.mark.parametrize("command", [[], ["data"], ["dead-letters"]], ids=" ".join)
def test_the_menu_says_what_each_command_does_to_the_end_of_the_sentence(command: list[str]):
    result = CliRunner().invoke(main, [*command, "--help"], terminal_width=80)
    commands = [line.split(maxsplit=1) for line in result.output.partition("Commands:\n")[2].splitlines()]
    assert commands
    assert all(len(words) == 2 and not words[1].endswith("...") for words in commands), commands


def test_the_short_option_shows_the_help():
    assert CliRunner().invoke(main, ["-h"]).output == CliRunner().invoke(main, ["--help"]).output != ""


def test_the_commands_of_the_local_cloud_are_the_same_under_both_names():
    context = click.Context(main)
    assert {name: main.get_command(context, name) for name in local_cloud.commands} == local_cloud.commands


@pytest.mark.parametrize("command", ["data", "dev", "emulators"])
def test_without_the_local_cloud_its_commands_say_what_to_install(command: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(group, "PLUGINS", "no such group")
    result = CliRunner().invoke(main, [command])
    assert result.exit_code == 2
    assert "pip install ./local-cloud './lib[local]'" in " ".join(result.output.split())


def test_without_click_the_command_says_what_to_install():
    code = "import sys; sys.modules['click'] = None; from gae_deferred.cli.command import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "sweep"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "Error: the command gae-deferred needs click, which is not installed: pip install click\n"


def test_another_missing_module_is_not_taken_for_click(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "gae_deferred.cli.group", None)
    with pytest.raises(ModuleNotFoundError, match=r"gae_deferred\.cli\.group"):
        installed.main()


def test_the_commands_for_production_do_not_load_the_local_cloud():
    code = (
        "import sys; from click.testing import CliRunner; from gae_deferred.cli.group import main; "
        "assert CliRunner().invoke(main, ['dead-letters', '--help']).exit_code == 0; "
        "assert not [name for name in sys.modules if name.startswith('gae_local_cloud')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
