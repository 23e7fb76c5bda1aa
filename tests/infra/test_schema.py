"""infra/ sets only arguments that its providers have, and all that they require."""

import re
from pathlib import Path

import pytest

from tests.infra import configuration, provider_schema

INFRA = Path(__file__).parents[2] / "infra"

QUEUE = """
resource "google_cloud_tasks_queue" "this" {
  name     = "default"
  location = "us-central1"
  rate_limits {
    max_dispatches_per_second = 5
  }
}
"""


def problems_of(folder: Path, code: str) -> list[str]:
    (folder / "main.tf").write_text(code)
    return [problem.rpartition(": ")[2] for problem in configuration.problems(folder)]


def test_infra_fits_the_schemas_of_its_providers() -> None:
    assert configuration.problems(INFRA) == []


def test_every_file_of_infra_is_checked() -> None:
    """The parser finds as many blocks as a search for their first lines."""
    pattern = re.compile(r'^(?:resource|data|ephemeral|provider) "', re.MULTILINE)
    expected = sum(len(pattern.findall(file.read_text())) for file in INFRA.rglob("*.tf"))
    assert len(configuration.read(INFRA)) == expected > 15


def test_the_schemas_are_those_of_the_pinned_providers() -> None:
    pinned = dict(
        re.findall(r'source\s+= "hashicorp/(\w+)"\s+version = "([\d.]+)"', (INFRA / "versions.tf").read_text())
    )
    assert pinned == {"google": "6.50.0", "random": "3.7.2"}
    assert pinned == {name: provider_schema.version(name) for name in pinned}


def test_a_correct_configuration_has_no_problems(tmp_path: Path) -> None:
    assert problems_of(tmp_path, QUEUE) == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("location ", "locatoin ", "there is no locatoin"),
        ('  location = "us-central1"', "", "location is missing"),
        ("rate_limits {", "rate_limit {", "there is no rate_limit"),
        ("max_dispatches_per_second", "max_dispatches", "in rate_limits, there is no max_dispatches"),
        ("max_dispatches_per_second", "max_burst_size", "in rate_limits, max_burst_size can only be read"),
        ("rate_limits {", "rate_limits = {", "rate_limits is a block, not an argument"),
        ('name     = "default"', "name {\n}", "name is an argument, not a block"),
        ("rate_limits {", "rate_limits {\n}\nrate_limits {", "there may be only one rate_limits"),
        ("rate_limits {", "http_target {\noidc_token {\n}\n}\nrate_limits {", "service_account_email is missing"),
        (
            "rate_limits {",
            'dynamic "rates" {\nfor_each = [1]\ncontent {\n}\n}\nrate_limits {',
            "there is no block rates",
        ),
        (
            "rate_limits {",
            'dynamic "stackdriver_logging_config" {\nfor_each = [1]\ncontent {\n}\n}\nrate_limits {',
            "in stackdriver_logging_config, sampling_ratio is missing",
        ),
        (
            "google_cloud_tasks_queue",
            "google_cloud_task_queue",
            "The providers have no resource google_cloud_task_queue",
        ),
        ('"default"', "google_cloud_tasks_queue.other.label", "google_cloud_tasks_queue.other has no label"),
    ],
)
def test_a_mistake_is_reported(tmp_path: Path, old: str, new: str, problem: str) -> None:
    assert old in QUEUE
    found = problems_of(tmp_path, QUEUE.replace(old, new, 1))
    assert [each for each in found if each.endswith(problem)], found


def test_a_mistake_in_a_data_source_an_ephemeral_resource_or_a_provider_is_reported(tmp_path: Path) -> None:
    assert problems_of(tmp_path, 'data "google_project" "this" {\n  projectid = "p"\n}') == ["there is no projectid"]
    assert problems_of(tmp_path, 'ephemeral "random_password" "key" {\n}') == ["length is missing"]
    assert problems_of(tmp_path, 'ephemeral "google_password" "key" {\n}') == [
        "The providers have no ephemeral google_password"
    ]
    assert problems_of(tmp_path, 'provider "google" {\n  zoom = 1\n}') == ["there is no zoom"]
