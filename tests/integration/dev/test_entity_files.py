"""``gae-deferred data``: entities are exported to a file and imported again."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from google.cloud import datastore_v1

from gae_local_cloud.cloud import LocalCloud, LocalCloudError, Options
from gae_local_cloud.datastore import DatastoreServer
from gae_local_cloud.entity_files import export_entities

from .commands import get, run_here, until
from .test_dev import APP, app_url, dev


def run(*arguments: str, cwd: Path) -> tuple[int, str]:
    result = run_here("data", *arguments, cwd=cwd)
    return result.exit_code, result.output


def test_exported_entities_can_be_imported_elsewhere(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
        (folder / "main.py").write_text(APP)
    with dev(here) as command:
        url = app_url(command)
        get(f"{url}/defer/kept")
        until(lambda: get(f"{url}/read") == (200, "kept"), "the task's effect")
        assert run("export", "../running", cwd=here) == (0, "1 entity of .local-cloud is in ../running\n")
        refused = run("import", "../running", cwd=here)
        assert refused[0] == 1
        assert "in use by another local cloud" in refused[1]
        command.process.terminate()
        command.wait()
    assert run("export", "../file", cwd=here) == (0, "1 entity of .local-cloud is in ../file\n")
    assert run("import", "../file", cwd=there) == (0, "1 entity of ../file is in .local-cloud\n")
    assert (tmp_path / "running").read_text() == (tmp_path / "file").read_text()
    with dev(there) as command:
        assert get(f"{app_url(command)}/read") == (200, "kept")


def test_a_folder_without_data_and_an_invalid_file_are_reported(tmp_path):
    code, output = run("export", "file", cwd=tmp_path)
    assert (code, "There are no entities in .local-cloud" in output) == (1, True)
    (tmp_path / "file").write_text("{}\nnot an entity\n")
    code, output = run("import", "file", cwd=tmp_path)
    assert (code, "Error: file, line" in output) == (1, True)


@asynccontextmanager
async def cloud_with_entities(data_dir: Path, number: int) -> AsyncIterator[LocalCloud]:
    """Run a local cloud with entities, which commands find."""
    ports = {"tasks_port": 0, "tasks_rest_port": 0, "datastore_port": 0}
    async with LocalCloud(Options(data_dir=data_dir, **ports)) as cloud:
        cloud.announce()
        async with grpc.aio.insecure_channel(cloud.datastore_address) as channel:
            commit = channel.unary_unary(
                "/google.datastore.v1.Datastore/Commit",
                request_serializer=datastore_v1.CommitRequest.serialize,
                response_deserializer=datastore_v1.CommitResponse.deserialize,
            )
            for start in range(0, number, 500):
                keys = [{"path": [{"kind": "K", "id": start + each + 1}]} for each in range(min(500, number - start))]
                mutations = [{"insert": {"key": key, "properties": {"é": {"string_value": "ü" * 99}}}} for key in keys]
                await commit(datastore_v1.CommitRequest(project_id="p", mode="NON_TRANSACTIONAL", mutations=mutations))
        yield cloud


async def test_many_entities_are_exported_while_the_local_cloud_runs(tmp_path, capsys):
    data_dir, file = tmp_path / "data", tmp_path / "file"
    async with cloud_with_entities(data_dir, 1201):
        await export_entities(data_dir, file)
    assert capsys.readouterr().out == f"1201 entities of {data_dir} are in {file}\n"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["key"]["path"][0]["id"] for line in lines] == [str(number) for number in range(1, 1202)]
    assert {line["properties"]["é"]["stringValue"] for line in lines} == {"ü" * 99}


async def test_an_export_that_breaks_off_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    data_dir, file = tmp_path / "data", tmp_path / "file"
    file.write_text("before")

    async def broken(self):
        yield ["{}\n"]
        raise ConnectionError

    async with cloud_with_entities(data_dir, 1):
        monkeypatch.setattr(DatastoreServer, "export_lines", broken)
        with pytest.raises(LocalCloudError, match="sends no entities"):
            await export_entities(data_dir, file)
    assert file.read_text() == "before"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["data", "file"]


async def test_a_folder_that_is_in_use_without_an_address_is_told(tmp_path):
    async with cloud_with_entities(tmp_path, 1):
        (tmp_path / "running.json").unlink()
        with pytest.raises(LocalCloudError, match="in use by another local cloud"):
            await export_entities(tmp_path, tmp_path / "file")
