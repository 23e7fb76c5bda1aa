"""cron.yaml and queue.yaml: rendered, or the app's own."""

from pathlib import Path

import pytest
import yaml

from deploy.commands.deploy import queue_notes
from deploy.errors import StagingError
from deploy.infrastructure import by_convention
from deploy.staging import project_yaml
from deploy.staging.project_yaml import CRON, QUEUES
from deploy.staging.templates import render
from deploy.staging.variables import Variables

OWN_JOB = {
    "description": "Größe: messen",
    "url": "/measure",
    "schedule": "every day 04:30",
    "timezone": "Europe/Zurich",
}
SWEEP = yaml.safe_load(render(CRON, Variables()))["cron"]


def write(app: Path, name: str, content: object) -> None:
    (app / name).write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")


@pytest.mark.parametrize("name", [CRON, QUEUES])
def test_without_a_file_of_its_own_an_app_gets_the_rendered_one(tmp_path, name):
    assert project_yaml.text(name, tmp_path, Variables()) == render(name, Variables())


def test_the_sweep_is_added_to_the_jobs_of_an_app(tmp_path):
    write(tmp_path, CRON, {"cron": [OWN_JOB]})

    merged = project_yaml.text(CRON, tmp_path, Variables())

    assert project_yaml.lacks_sweep(tmp_path, "default")
    assert yaml.safe_load(merged) == {"cron": [OWN_JOB, *SWEEP]}


@pytest.mark.parametrize("target", [{}, {"target": "default"}])
def test_a_cron_yaml_with_the_sweep_is_deployed_as_it_is(tmp_path, target):
    write(tmp_path, CRON, {"cron": [{"url": "/_ah/deferred/sweep", "schedule": "every 5 minutes", **target}]})

    assert project_yaml.text(CRON, tmp_path, Variables()) == (tmp_path / CRON).read_text()
    assert not project_yaml.lacks_sweep(tmp_path, "default")


def test_the_sweep_of_another_service_does_not_count(tmp_path):
    write(tmp_path, CRON, {"cron": SWEEP})

    merged = yaml.safe_load(project_yaml.text(CRON, tmp_path, Variables(service="api")))

    assert [job["target"] for job in merged["cron"]] == ["default", "api"]


def test_a_queue_yaml_of_the_apps_own_is_deployed_as_it_is(tmp_path):
    write(tmp_path, QUEUES, {"queue": [{"name": "mail", "rate": "1/s"}]})

    assert project_yaml.text(QUEUES, tmp_path, Variables()) == (tmp_path / QUEUES).read_text()


@pytest.mark.parametrize(("text", "problem"), [("cron: [", "is not YAML"), ("cron: 3\n", "has no list")])
def test_a_broken_cron_yaml_is_reported(tmp_path, text, problem):
    (tmp_path / CRON).write_text(text)

    with pytest.raises(StagingError, match=problem):
        project_yaml.text(CRON, tmp_path, Variables())


def test_queues_that_terraform_does_not_make_are_named(tmp_path):
    write(tmp_path, QUEUES, {"queue": [{"name": "default"}, {"name": "mail"}, {"name": "news"}]})

    (note,) = queue_notes(tmp_path, by_convention("my-project"))

    assert "queue.yaml names mail, news, but Terraform makes only default" in note
    assert "infra/my-project.tfvars" in note


def test_queues_that_terraform_makes_need_no_note(tmp_path):
    assert queue_notes(tmp_path, by_convention("my-project")) == []
    write(tmp_path, QUEUES, {"queue": [{"name": "default"}], "total_storage_limit": "1M"})
    assert queue_notes(tmp_path, by_convention("my-project")) == []
