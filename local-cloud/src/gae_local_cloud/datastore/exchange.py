"""Export and import of the whole store as a text file, for fixtures.

Each line is one ``google.datastore.v1.Entity`` in protobuf's JSON, with sorted names. Lines are sorted by project,
database, namespace and key, so that a diff of two exports shows which entities differ.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from itertools import islice
from pathlib import Path

from google.protobuf import json_format

from gae_local_cloud.datastore import validation
from gae_local_cloud.datastore.errors import DatastoreError, InvalidArgument
from gae_local_cloud.datastore.keys import EntityKey, Partition, make_key
from gae_local_cloud.datastore.messages import Entity, EntityMessage
from gae_local_cloud.datastore.store import Change, EntityStore, StoredEntity, entity_key

_CHUNK = 200
"""Entities to read or write before other requests get their turn."""


class ImportFailed(Exception):
    """A file is not an export. Some entities from lines before the wrong one may have been imported."""


async def export_lines(entities: EntityStore) -> AsyncIterator[list[str]]:
    """Yield the lines of an export, some at a time; other requests get their turn in between.

    A commit made during the export may or may not be in it.
    """
    for partition in sorted(entities.partitions()):
        reached = b""
        while rows := entities.page(partition, reached, _CHUNK):
            yield [_line(partition, found, stored) for found, stored in rows]
            reached = rows[-1][0]
            await asyncio.sleep(0)


async def write_export(chunks: AsyncIterable[list[str]], path: Path) -> int:
    """Write the lines of an export to a file and return their number.

    Raises:
        OSError: the file cannot be written. A file that existed before is unchanged, also if ``chunks`` raises.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    count = 0
    try:
        with temporary.open("w", encoding="utf-8") as file:
            async for lines in chunks:
                file.writelines(lines)
                count += len(lines)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return count


def _line(partition: Partition, path: bytes, stored: StoredEntity) -> str:
    entity = stored.message(make_key(partition, path))
    return json.dumps(json_format.MessageToDict(entity), sort_keys=True, ensure_ascii=False) + "\n"


async def import_entities(entities: EntityStore, path: Path) -> int:
    """Store all entities of an export, replacing those with the same keys, and return their number.

    Raises:
        ImportFailed: a line is not an entity; the message has its number.
        OSError: the file cannot be read.
    """
    count = 0
    with path.open(encoding="utf-8") as file:
        numbered = enumerate(file, start=1)
        while chunk := list(islice(numbered, _CHUNK)):
            changes = dict(_changes(entities, path, iter(chunk)))
            with entities.database.atomic() as stored:
                entities.write(entities.next_version(), changes)
            await stored
            count += len(changes)
    return count


def _changes(entities: EntityStore, path: Path, lines: Iterator[tuple[int, str]]) -> Iterator[tuple[EntityKey, Change]]:
    for number, line in lines:
        if line.strip():
            try:
                entity = _parse(line)
            except (json_format.ParseError, DatastoreError) as error:
                raise ImportFailed(f"{path}, line {number}: {error}") from error
            key = entity_key(entity.key)
            yield key, Change(entity.key.path[-1].kind, entities.get(key), entity)


def _parse(line: str) -> EntityMessage:
    entity = json_format.Parse(line, Entity())
    partition = entity.key.partition_id
    if not partition.project_id:
        raise InvalidArgument("The key has no project.")
    validation.check_key(entity.key)
    validation.check_properties(entity, Partition(partition.project_id, partition.database_id, ""))
    validation.check_size(entity)
    return entity
