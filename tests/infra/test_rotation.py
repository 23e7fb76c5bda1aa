"""Rotation of the signing keys; the library reads the rotated value."""

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy import key_rotation
from deploy.cli import main
from gae_deferred import signing_keys


def ids(value: str) -> list[str]:
    return [key.partition(":")[0] for key in value.split(",")]


def test_the_next_key_signs_and_the_old_one_still_verifies() -> None:
    rotation = key_rotation.after("first:aaaaaaaaaaaaaaaa,second:bbbbbbbbbbbbbbbb")
    assert ids(rotation.value)[0] == rotation.signing == "second"
    assert ids(rotation.value)[2] == "first"
    assert rotation.dropped == ()


def test_instances_with_the_keys_from_before_a_rotation_verify_later_signatures() -> None:
    value = "first:aaaaaaaaaaaaaaaa,second:bbbbbbbbbbbbbbbb"
    for _ in range(5):
        before, value = value, key_rotation.after(value).value
        assert ids(value)[0] in ids(before)
        assert ids(before)[0] in ids(value)  # the other direction: new instances verify older signatures
        assert len(set(ids(value))) == 3


def test_the_oldest_key_is_dropped_and_reported() -> None:
    assert key_rotation.after("b:bbbbbbbbbbbbbbbb,c:cccccccccccccccc,a:aaaaaaaaaaaaaaaa").dropped == ("a",)


def test_a_single_key_signs_until_every_instance_knows_a_second_one() -> None:
    rotation = key_rotation.after("only:aaaaaaaaaaaaaaaa\n")
    assert ids(rotation.value)[0] == rotation.signing == "only"
    assert len(ids(rotation.value)) == 2
    assert rotation.dropped == ()


def test_the_library_reads_the_rotated_keys() -> None:
    rotation = key_rotation.after("first:aaaaaaaaaaaaaaaa,second:bbbbbbbbbbbbbbbb")
    assert next(iter(signing_keys.parse(rotation.value))) == rotation.signing


def test_an_empty_secret_cannot_be_rotated() -> None:
    with pytest.raises(key_rotation.RotationError, match="infra-apply"):
        key_rotation.after("\n")


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


def test_the_new_keys_reach_gcloud_through_a_pipe_only(gcloud: Path) -> None:
    result = CliRunner().invoke(main, ["infra", "rotate-keys", "--project", "my-project"])
    assert result.exit_code == 0
    assert (gcloud / "added").read_text().startswith("second:bbbbbbbbbbbbbbbb,k2")
    assert "aaaaaaaaaaaaaaaa" not in (gcloud / "calls").read_text() + result.output
    assert "second signs" in result.output


@pytest.mark.parametrize("fails", ["access", "add"])
def test_keys_stay_unchanged_when_gcloud_fails(gcloud: Path, fails: str) -> None:
    (gcloud / "fails").write_text(fails)
    result = CliRunner().invoke(main, ["infra", "rotate-keys", "--project", "my-project"])
    assert result.exit_code == 1
    assert "The keys are as they were" in result.output
    assert not (gcloud / "added").exists()


def test_missing_gcloud_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    result = CliRunner().invoke(main, ["infra", "rotate-keys", "--project", "my-project"])
    assert result.exit_code == 1
    assert "gcloud is not installed" in result.output
