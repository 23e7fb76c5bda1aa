"""What the command says to somebody who meets it for the first time."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from gae_deferred.local.cli import main


@pytest.mark.parametrize("command", [[], ["data"], ["dead-letters"]], ids=" ".join)
def test_the_menu_says_what_each_command_does_to_the_end_of_the_sentence(command: list[str]):
    result = CliRunner().invoke(main, [*command, "--help"], terminal_width=80)
    assert "Commands:" in result.output
    assert "..." not in result.output.partition("Commands:")[2]


@pytest.mark.parametrize("missing", ["click", "aiohttp"])  # nothing of the extra; or Flask's part of it
def test_without_the_extra_the_command_says_what_to_install(missing: str):
    code = f"import sys; sys.modules[{missing!r}] = None; from gae_deferred.local.command import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "emulators"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"Error: this needs {missing}, which is not installed. It comes with gae-deferred[local]\n"
