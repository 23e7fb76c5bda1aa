"""Rotation of the signing keys, whose value the library itself reads here."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy import terraform
from gae_deferred import signing_keys


def ids(value: str) -> list[str]:
    return [key.partition(":")[0] for key in value.split(",")]


def test_the_next_key_signs_and_the_old_one_still_verifies() -> None:
    rotated, signing, dropped = terraform.next_keys("first:aaaaaaaaaaaaaaaa,second:bbbbbbbbbbbbbbbb")
    assert ids(rotated)[0] == signing == "second"
    assert ids(rotated)[2] == "first"
    assert dropped == []


def test_whoever_read_the_keys_before_a_rotation_verifies_what_is_signed_after_it() -> None:
    value = "first:aaaaaaaaaaaaaaaa,second:bbbbbbbbbbbbbbbb"
    for _ in range(5):
        before = value.split(",")
        value, _, _ = terraform.next_keys(before_text := ",".join(before))
        assert value.split(",")[0] in before_text.split(",")
        assert before[0] in value.split(",")  # and the other way round
        assert len(set(ids(value))) == 3


def test_the_key_before_the_last_one_is_dropped_and_told() -> None:
    _, _, dropped = terraform.next_keys("b:bbbbbbbbbbbbbbbb,c:cccccccccccccccc,a:aaaaaaaaaaaaaaaa")
    assert dropped == ["a"]


def test_a_single_key_goes_on_signing_until_everybody_knows_another() -> None:
    rotated, signing, dropped = terraform.next_keys("only:aaaaaaaaaaaaaaaa\n")
    assert signing == "only"
    assert ids(rotated)[0] == "only"
    assert len(ids(rotated)) == 2
    assert dropped == []


def test_the_library_reads_what_a_rotation_writes() -> None:
    rotated, first, _ = terraform.next_keys("first:aaaaaaaaaaaaaaaa,second:bbbbbbbbbbbbbbbb")
    assert next(iter(signing_keys.parse(rotated))) == first


def test_no_keys_are_not_rotated() -> None:
    with pytest.raises(terraform.Problem, match="infra-apply"):
        terraform.next_keys("\n")


@pytest.fixture
def gcloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tool = tmp_path / "gcloud"
    tool.write_text(
        f"#!{sys.executable}\n"
        "import os, pathlib, sys\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "with (folder / 'calls').open('a') as calls: calls.write(' '.join(sys.argv[1:]) + chr(10))\n"
        "if (folder / 'fails').exists() and (folder / 'fails').read_text() in sys.argv: sys.exit(1)\n"
        "if 'access' in sys.argv: sys.stdout.write('first:aaaaaaaaaaaaaaaa,second:bbbbbbbbbbbbbbbb')\n"
        "if 'add' in sys.argv: (folder / 'added').write_text(sys.stdin.read())\n"
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_the_new_keys_go_to_gcloud_by_a_pipe_only(gcloud: Path) -> None:
    result = CliRunner().invoke(terraform.main, ["rotate-keys", "--project", "my-project"])
    assert result.exit_code == 0
    assert (gcloud / "added").read_text().startswith("second:bbbbbbbbbbbbbbbb,k2")
    assert "aaaaaaaaaaaaaaaa" not in (gcloud / "calls").read_text() + result.output
    assert "second signs" in result.output


@pytest.mark.parametrize("fails", ["access", "add"])
def test_keys_stay_when_gcloud_fails(gcloud: Path, fails: str) -> None:
    (gcloud / "fails").write_text(fails)
    result = CliRunner().invoke(terraform.main, ["rotate-keys", "--project", "my-project"])
    assert result.exit_code == 1
    assert "the keys are as they were" in result.output
    assert not (gcloud / "added").exists()


def test_gcloud_that_is_missing_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    result = CliRunner().invoke(terraform.main, ["rotate-keys", "--project", "my-project"])
    assert result.exit_code == 1
    assert "gcloud is not installed" in result.output


@pytest.mark.skipif(shutil.which("gcloud") is None, reason="gcloud is not installed")
@pytest.mark.parametrize("command", [terraform.read_keys_command, terraform.add_keys_command])
def test_gcloud_takes_the_command_lines(command: Callable[[str], list[str]]) -> None:
    text = "--command-string=gcloud " + " ".join(command("my-project"))
    done = subprocess.run(
        ["gcloud", "meta", "lint-gcloud-commands", text], capture_output=True, text=True, check=True, timeout=60
    )
    (verdict,) = json.loads(done.stdout)
    assert verdict["success"], verdict["error_message"]
