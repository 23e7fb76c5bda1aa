"""Rotation of the signing keys; the library reads the rotated value."""

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from deploy import key_rotation
from deploy.cli import main
from deploy.gcloud import GcloudError
from gae_deferred import signing, signing_keys


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


class Gcloud:
    """A stand-in for gcloud, with a secret that has one version for each value."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls: list[str] = []
        self.values: list[str] = []
        self.created: list[datetime] = []
        self.fails = ""
        self.meanwhile: Callable[[str], None] = lambda command: None

    def add(self, value: str, age: timedelta = timedelta()) -> None:
        self.values.append(value)
        self.created.append(datetime.now(UTC) - age)

    def run(self, command: tuple[str, ...], text: str | None) -> str:
        self.calls.append(" ".join(command))
        verb = command[3]
        if verb == self.fails:
            raise GcloudError(command, "no")
        self.meanwhile(verb)
        if verb == "list":
            return json.dumps(
                [
                    {"name": self.name(number), "createTime": f"{time:%Y-%m-%dT%H:%M:%S.%f}Z", "state": "ENABLED"}
                    for number, time in enumerate(self.created, start=1)
                ]
            )
        if verb == "access":
            return self.values[int(command[4]) - 1]
        assert verb == "add"
        assert text is not None
        self.add(text)
        return self.name(len(self.values)) + "\n"

    @staticmethod
    def name(number: int) -> str:
        return f"projects/1234/secrets/deferred-signing-keys/versions/{number}"


TWO = "first:aaaaaaaaaaaaaaaa,second:bbbbbbbbbbbbbbbb"
THREE = "b:bbbbbbbbbbbbbbbb,c:cccccccccccccccc,a:aaaaaaaaaaaaaaaa"


@pytest.fixture
def gcloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gcloud:
    stand_in = Gcloud(tmp_path)

    def ask(command: tuple[str, ...], text: str | None = None, **options: Any) -> str:
        return stand_in.run(command, text)

    monkeypatch.setattr(key_rotation, "ask", ask)
    monkeypatch.setattr(key_rotation, "ask_json", lambda command: json.loads(stand_in.run(command, None)))
    return stand_in


def rotate(*options: str) -> Result:
    return CliRunner().invoke(main, ["infra", "rotate-keys", "--project", "my-project", *options])


def test_a_rotation_adds_a_version_and_tells_the_signer(gcloud: Gcloud) -> None:
    gcloud.add(TWO)
    result = rotate()
    assert result.exit_code == 0
    assert gcloud.values[-1].startswith("second:bbbbbbbbbbbbbbbb,k2")
    assert "second signs" in result.output


def test_a_key_is_not_dropped_while_tasks_that_it_signed_may_wait(gcloud: Gcloud) -> None:
    gcloud.add("a:aaaaaaaaaaaaaaaa,b:bbbbbbbbbbbbbbbb", age=timedelta(days=300))
    gcloud.add(THREE, age=key_rotation.WAIT)  # instances may have signed by a for some minutes more
    result = rotate()
    assert result.exit_code == 1
    assert "drops a, and until" in result.output
    assert "--force" in result.output
    assert len(gcloud.values) == 2


@pytest.mark.parametrize(
    ("age", "options"), [(timedelta(days=69, hours=1), ()), (timedelta(), ("--force",))], ids=["old", "forced"]
)
def test_a_key_is_dropped_when_it_is_old_enough_or_by_force(
    gcloud: Gcloud, age: timedelta, options: tuple[str, ...]
) -> None:
    gcloud.add(THREE, age)
    result = rotate(*options)
    assert result.exit_code == 0
    assert ids(gcloud.values[-1])[0] == "c"
    assert "a" not in ids(gcloud.values[-1])
    assert "tasks signed with a are refused" in result.output


def test_the_wait_is_as_long_as_the_library_accepts_a_signature() -> None:
    assert key_rotation.WAIT.total_seconds() == signing.MAX_AGE
    assert key_rotation.CHANGE_OVER.total_seconds() == signing_keys.LIFETIME + signing_keys.MAX_STALENESS


def test_the_latest_of_more_than_nine_versions_is_read(gcloud: Gcloud) -> None:
    for number in range(11):
        gcloud.add(f"x{number}:aaaaaaaaaaaaaaaa,y{number}:bbbbbbbbbbbbbbbb")
    assert rotate().exit_code == 0
    assert gcloud.values[-1].startswith("y10:")


@pytest.mark.parametrize("options", [(), ("--force",)])
def test_a_secret_that_changed_meanwhile_stays_as_it_is(gcloud: Gcloud, options: tuple[str, ...]) -> None:
    gcloud.add(TWO)
    gcloud.meanwhile = lambda verb: gcloud.add("their:dddddddddddddddd") if verb == "access" else None
    result = rotate(*options)
    assert result.exit_code == 1
    assert "Somebody else" in result.output
    assert gcloud.values[1:] == ["their:dddddddddddddddd"]


def test_a_change_in_the_moment_of_adding_is_told(gcloud: Gcloud) -> None:
    gcloud.add(TWO)
    gcloud.meanwhile = lambda verb: gcloud.add("their:dddddddddddddddd") if verb == "add" else None
    result = rotate()
    assert result.exit_code == 1
    assert "version 3 follows 1" in result.output


@pytest.mark.parametrize("fails", ["list", "access", "add"])
def test_keys_stay_unchanged_when_gcloud_fails(gcloud: Gcloud, fails: str) -> None:
    gcloud.add(TWO)
    gcloud.fails = fails
    result = rotate()
    assert result.exit_code == 1
    assert "The keys are as they were" in result.output
    assert gcloud.values == [TWO]


def test_a_secret_without_a_version_cannot_be_rotated(gcloud: Gcloud) -> None:
    assert "infra-apply" in rotate().output


def test_the_new_keys_reach_gcloud_through_a_pipe_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command of its own stands in for gcloud here."""
    tool = tmp_path / "gcloud"
    name = Gcloud.name(1)
    tool.write_text(
        f"#!{sys.executable}\n"
        "import os, pathlib, sys\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "with (folder / 'calls').open('a') as calls: calls.write(' '.join(sys.argv[1:]) + chr(10))\n"
        f'if \'list\' in sys.argv: print(\'[{{"name": "{name}", "createTime": "2026-01-01T00:00:00Z"}}]\')\n'
        f"if 'access' in sys.argv: sys.stdout.write({TWO!r})\n"
        f"if 'add' in sys.argv: (folder / 'added').write_text(sys.stdin.read()), print({Gcloud.name(2)!r})\n"
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    result = rotate()
    assert result.exit_code == 0, result.output
    assert (tmp_path / "added").read_text().startswith("second:bbbbbbbbbbbbbbbb,k2")
    assert "aaaaaaaaaaaaaaaa" not in (tmp_path / "calls").read_text() + result.output


def test_missing_gcloud_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    result = rotate()
    assert result.exit_code == 1
    assert "gcloud is not installed" in result.output
