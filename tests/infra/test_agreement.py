"""Facts that infra/ states twice, or shares with the library, agree."""

import json
import logging
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hcl2
import pytest

from gae_deferred import dead_letters, deferred, entities, sweeper
from gae_deferred.attempt import Attempt
from gae_deferred.delivery import Delivery

INFRA = Path(__file__).parents[2] / "infra"
ROW = re.compile(r"^\| `(\w+)` \| (.+?) \|(?: (.+?) \|)?$", re.MULTILINE)


def parsed(file: str) -> dict[str, Any]:
    content: dict[str, Any] = hcl2.loads((INFRA / file).read_text())
    return content


def declared(file: str, kind: str) -> dict[str, dict[str, Any]]:
    return {name.strip('"'): body for block in parsed(file)[kind] for name, body in block.items() if name[0] == '"'}


def table(heading: str) -> dict[str, tuple[str, str]]:
    section = (INFRA / "README.md").read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return {name: (second, third) for name, second, third in ROW.findall(section)}


def test_the_readme_lists_every_variable_with_its_description_and_default() -> None:
    text = (INFRA / "variables.tf").read_text()
    expected = {}
    for name, body in re.findall(r'^variable "(\w+)" {\n(.*?)^}', text, re.DOTALL | re.MULTILINE):
        description = re.search(r'^  description = "(.*)"$', body, re.MULTILINE)
        default = re.search(r"^  default +=\s+(.*)$", body, re.MULTILINE)
        assert description is not None, name
        expected[name] = (description[1], f"`{default[1]}`" if default else "required")
    assert len(expected) > 15
    assert table("Inputs") == expected


def test_the_readme_lists_every_output_with_its_description() -> None:
    outputs = declared("outputs.tf", "output")
    assert {name: row[0] for name, row in table("Outputs").items()} == {
        name: output["description"].strip('"') for name, output in outputs.items()
    }


def test_every_variable_and_output_has_a_description() -> None:
    for file in INFRA.rglob("*.tf"):
        content = hcl2.loads(file.read_text())
        for kind in ("variable", "output"):
            for block in content.get(kind, ()):
                for name, body in block.items():
                    assert name[0] != '"' or body["description"], f"{file}: {name}"


def test_exactly_the_kinds_that_expire_have_ttl_policies() -> None:
    """A dead letter does not expire: it stays until a person deletes it."""
    models = [model for model in vars(entities).values() if isinstance(model, type) and hasattr(model, "_get_kind")]
    expiring = {model._get_kind() for model in models if hasattr(model, "expires")}
    text = (INFRA / "datastore.tf").read_text()
    listed = re.search(r"ttl_policies \? \[(.*?)\]", text)
    assert listed is not None
    assert set(re.findall(r'"(\w+)"', listed[1])) == expiring == {"_DeferredPayload", "_DeferredReceipt"}


def test_the_alert_matches_the_librarys_log_of_tasks_that_failed_for_good(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (INFRA / "alerts.tf").read_text()
    listed = re.search(r"dead_letter_messages = \[(.*?)\n  \]", text, re.DOTALL)
    assert listed is not None
    kept, lost, failed = (re.compile(line) for line in re.findall(r'"(.+)"', listed[1]))

    failure = dead_letters.Failure(
        "failed", "mails", "task-1", "shop.mail", ValueError("no"), letter_id=5629499534213120
    )
    logged = logged_by(caplog, lambda: dead_letters.tell(failure))
    assert any(kept.search(line) for line in logged), logged

    monkeypatch.setattr(dead_letters, "_in_transaction", lambda write: 1 // 0)
    monkeypatch.setattr(dead_letters.cloud_tasks, "create", lambda task: 1 // 0)
    attempt = Attempt(Delivery({}), b"")
    logged = logged_by(caplog, lambda: dead_letters.keep_failed(attempt, ValueError("no"), "failed"))
    assert any(lost.search(line) for line in logged), logged

    class Failing(deferred.Handler):
        def run_from_request(self, environ: Any) -> Any:
            raise deferred.PermanentTaskFailure("it cannot be done")

    logged = logged_by(caplog, lambda: Failing().post({}))
    assert any(failed.search(line) for line in logged), logged


def logged_by(caplog: pytest.LogCaptureFixture, act: Callable[[], object]) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.ERROR):
        act()
    return caplog.messages


def test_the_scheduler_calls_the_url_where_the_library_sweeps() -> None:
    assert f'"${{local.sweep_base_url}}{sweeper.SWEEP_URL}"' in (INFRA / "sweep.tf").read_text()


@pytest.mark.skipif(shutil.which("gcloud") is None, reason="gcloud is not installed")
def test_gcloud_accepts_every_command_line_of_the_readme(tmp_path: Path) -> None:
    text = (INFRA / "README.md").read_text()
    commands = re.findall(r"^\$ (gcloud .+)|`(gcloud [^`]+)`", text, re.MULTILINE)
    commands = [" ".join((block or inline).split()) for block, inline in commands]
    assert len(commands) >= 5
    (tmp_path / "commands").write_text(json.dumps([{"command_string": command} for command in commands]))
    lint = ["gcloud", "meta", "lint-gcloud-commands", f"--commands-file={tmp_path / 'commands'}"]
    done = subprocess.run(lint, capture_output=True, text=True, check=True, timeout=60)
    verdicts = json.loads(done.stdout)
    assert [each["command_string"] for each in verdicts if not each["success"]] == []
    assert len(verdicts) == len(commands)
