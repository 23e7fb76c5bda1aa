"""The local cloud holds what recordings of production say, and a service that differs is noticed."""

import asyncio
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gae_local_cloud.datastore import Concurrency
from tests.recording.__main__ import main
from tests.recording.recordings import FOLDER, PROBES, differences, facts, known_differences, read
from tests.recording.target import local, prepared

RECORDINGS = sorted(FOLDER.glob("*.json"))


@functools.cache
def local_facts(service: str, concurrency: str = "pessimistic") -> Mapping[str, Any]:
    """Return the facts of a local cloud with the default options of production."""
    return asyncio.run(ask(service, concurrency=Concurrency(concurrency)))


async def ask(service: str, **options: Any) -> dict[str, Any]:
    async with local(**options) as services, prepared(services) as target:
        return await facts(target, PROBES[service])


def test_there_is_a_recording_of_production():
    assert [file for file in RECORDINGS if "Google's service" in read(file).source]


@pytest.mark.parametrize("file", RECORDINGS, ids=lambda file: file.stem)
def test_local_cloud_differs_from_a_recording_only_where_we_know_it(file: Path):
    recording = read(file)
    found = differences(recording.facts, local_facts(recording.service, **recording.settings))
    known = known_differences(recording.service)
    assert {name: values for name, values in found.items() if name not in known} == {}


@pytest.mark.parametrize("service", PROBES)
def test_each_known_difference_is_one_to_some_recording(service: str):
    found = {}
    for recording in map(read, RECORDINGS):
        if recording.service == service:
            found |= differences(recording.facts, local_facts(service, **recording.settings))
    assert [name for name in known_differences(service) if name not in found] == []


def test_local_cloud_agrees_with_its_own_recording(tmp_path: Path):
    done = CliRunner().invoke(main, ["--emulator", "--out", str(tmp_path)], catch_exceptions=False)
    assert done.exit_code == 0
    recordings = {recording.service: recording for recording in map(read, tmp_path.glob("*.json"))}
    assert {service: set(recording.facts) for service, recording in recordings.items()} == {
        service: {probe.__name__ for probe in probes} for service, probes in PROBES.items()
    }
    for service, recording in recordings.items():
        assert differences(recording.facts, local_facts(service)) == {}
        assert "local-dev" not in json.dumps(recording.facts)
    assert set(recordings["cloud-tasks"].measurements) == {"rates_after_idling", "name_window"}


def test_stand_in_that_differs_is_noticed():
    """The stand-in frees names of deleted queues, has no required indexes, and its transactions are optimistic."""
    recorded = {service: local_facts(service) for service in PROBES}
    tasks = asyncio.run(ask("cloud-tasks", reuse_queue_names=True))
    entities = asyncio.run(ask("datastore", require_indexes=False, concurrency=Concurrency.OPTIMISTIC))
    assert set(differences(recorded["cloud-tasks"], tasks)) == {
        "errors / create a deleted queue / code",
        "errors / create a deleted queue / message",
        "errors / create a task in a deleted queue / code",
        "errors / create a task in a deleted queue / message",
        "errors / get a deleted queue / code",
        "errors / get a deleted queue / message",
    }
    assert set(differences(recorded["datastore"], entities)) == {
        *(f"indexes / {query} / {part}" for query in INDEXED for part in ("code", "message")),
        "concurrency / the write from outside",
        "concurrency / the transaction's commit",
    }


INDEXED = (
    "SELECT * FROM Probe WHERE a = 1 ORDER BY b",
    "SELECT * FROM Probe ORDER BY a, b DESC",
    "SELECT * FROM Probe ORDER BY __key__ DESC",
    "SELECT a, b FROM Probe",
)


def test_fact_that_is_missing_now_is_a_difference():
    assert differences({"a": {"b": 1, "c": 2}}, {"a": {"c": 2}}) == {"a / b": (1, None)}
    assert differences({"a": {"b": 1}}, {"a": {"b": 1, "new": 2}}) == {}


async def test_nothing_is_left_after_a_run():
    async with local() as services:
        async with prepared(services) as target:
            await facts(target, PROBES["datastore"])
        assert [
            queue.name.rpartition("/")[2] async for queue in await target.tasks.list_queues(parent=target.parent)
        ] == ["default"]
        query = {"kind": [{"name": "Probe"}]}
        partition = {"namespace_id": target.run, "project_id": target.project}
        found = await target.datastore.run_query(
            request={"project_id": target.project, "partition_id": partition, "query": query}
        )
        assert list(found.batch.entity_results) == []


@pytest.mark.parametrize("arguments", [[], ["--project", "p", "--emulator"]])
def test_command_asks_either_a_project_or_a_local_cloud(arguments: list[str]):
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert "Name a project with --project, or ask a local cloud with --emulator" in done.output
