"""Commits: applies a list of mutations to entities."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from gae_local_cloud.datastore import property_paths, transforms, validation
from gae_local_cloud.datastore.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from gae_local_cloud.datastore.ids import IdAllocator
from gae_local_cloud.datastore.keys import EntityKey, Partition, describe
from gae_local_cloud.datastore.messages import (
    Entity,
    EntityMessage,
    KeyMessage,
    Message,
    Mutation,
    set_timestamp,
    timestamp_micros,
)
from gae_local_cloud.datastore.store import Change, EntityStore, StoredEntity, entity_key
from gae_local_cloud.datastore.transactions import Written

MAX_MUTATIONS = 500
"""Maximum number of mutations of a commit."""

_FORBIDDEN = {("insert", "insert"), ("update", "insert"), ("upsert", "insert"), ("delete", "update")}
"""Operations that may not follow each other on one entity in one commit (CommitRequest.mutations)."""


@dataclass
class _Working:
    """An entity while the mutations of a commit are applied to it.

    Parameters:
        key: its complete key.
        stored: the stored entity before the commit; None if it does not exist.
        before: the same as a message.
        entity: the entity after the mutations so far; None if it does not exist.
        operations: the operations of the commit on it, in order.
        written: whether it must be stored.
        deleted: whether a mutation has deleted it. A later mutation makes a new entity.
    """

    key: KeyMessage
    stored: StoredEntity | None = None
    before: EntityMessage | None = None
    entity: EntityMessage | None = None
    operations: list[str] = field(default_factory=list)
    written: bool = False
    deleted: bool = False


@dataclass
class Commit:
    """The mutations of one commit, applied in order in memory.

    Parameters:
        entities: the store to read.
        ids: completes the keys of new entities.
        scope: the request's project and database.
        transactional: whether the commit is transactional and so may mutate an entity more than once.
        version: the version of the entities that it writes.
    """

    entities: EntityStore
    ids: IdAllocator
    scope: Partition
    transactional: bool
    version: int
    _working: dict[EntityKey, _Working] = field(default_factory=dict)

    def apply(self, mutations: Sequence[Message], results: Any) -> None:
        """Apply mutations. Call it in an atomic block of the database.

        Parameters:
            mutations: the mutations, which are normalized and become part of the entities.
            results: the repeated field to which to add their results.

        Raises:
            InvalidArgument: a mutation or their sequence breaks a rule.
            AlreadyExists: an insert names an entity that exists.
            NotFound: an update names an entity that does not exist.
            FailedPrecondition: a mutation conflicts and asks to fail then.
        """
        if len(mutations) > MAX_MUTATIONS:
            raise InvalidArgument(f"cannot write more than {MAX_MUTATIONS} entities in a single call")
        checked = [self._check(mutation) for mutation in mutations]
        self._load()
        for mutation, working, _ in checked:
            self._apply(mutation, working, results.add())
        for result, (_, working, completed) in zip(results, checked, strict=True):
            if completed:
                result.key.CopyFrom(working.key)
            self._report(result, working)

    def changes(self) -> dict[EntityKey, Change]:
        """Return the changes to store."""
        return {
            key: Change(working.key.path[-1].kind, working.stored, working.entity, working.deleted)
            for key, working in self._working.items()
            if working.written
        }

    def written(self) -> Iterator[Written]:
        """Yield the entities that the mutations name, with their states before and after."""
        for key, working in self._working.items():
            yield Written(key, working.before, working.entity)

    def _check(self, mutation: Message) -> tuple[Message, _Working, bool]:
        """Check the rules for a mutation that do not depend on stored entities.

        Returns:
            The mutation, the entity that it applies to, and whether its key was completed.
        """
        operation = mutation.WhichOneof("operation")
        if operation is None:
            raise InvalidArgument("Mutation is missing operation.")
        if operation == "delete":
            key = mutation.delete
            if mutation.property_transforms:
                raise InvalidArgument("Delete mutation cannot have PropertyTransforms.")
        else:
            entity = getattr(mutation, operation)
            if not entity.HasField("key"):
                raise InvalidArgument("Entity is missing key.")
            key = entity.key
            validation.check_properties(entity, self.scope)
            if mutation.property_transforms:
                transforms.check(mutation.property_transforms, self.scope)
        _check_strategy(mutation, key)
        completed = self._check_key(key, operation)
        working = self._working.setdefault(entity_key(key), _Working(key))
        self._check_sequence(working, operation)
        working.operations.append(operation)
        return mutation, working, completed

    def _apply(self, mutation: Message, working: _Working, result: Message) -> None:
        operation = mutation.WhichOneof("operation")
        self._check_existence(working, operation)
        if self._conflicts(mutation, working):
            result.conflict_detected = True
            return
        working.deleted = working.deleted or operation == "delete"
        working.entity = None if operation == "delete" else self._written(mutation, working)
        if working.entity is not None:
            if mutation.property_transforms:
                results = transforms.apply(working.entity, mutation.property_transforms, self.version)
                result.transform_results.extend(results)
            validation.check_size(working.entity)
        working.written = self._changed(working)

    def _check_key(self, key: KeyMessage, operation: str) -> bool:
        """Check a mutation's key, and complete it if necessary; return whether it was completed."""
        validation.check_partition(key, self.scope)
        if validation.is_complete(key) or operation not in ("insert", "upsert"):
            validation.check_key(key)
            return False
        validation.check_key(key, incomplete=True)
        self.ids.complete(key)
        return True

    def _load(self) -> None:
        """Read the entities that the mutations name."""
        for name, stored in self.entities.get_all(self._working).items():
            working = self._working[name]
            working.stored = stored
            working.before = working.entity = stored.message(working.key)

    def _check_sequence(self, working: _Working, operation: str) -> None:
        if not working.operations:
            return
        if not self.transactional:
            raise InvalidArgument(
                "A non-transactional commit may not contain multiple mutations affecting the same entity."
            )
        previous = working.operations[-1]
        if (previous, operation) in _FORBIDDEN:
            raise InvalidArgument(f"Cannot {previous} then {operation} an entity in the same request.")

    def _check_existence(self, working: _Working, operation: str) -> None:
        if operation == "insert" and working.entity is not None:
            raise AlreadyExists(f"entity already exists: {describe(working.key)}")
        if operation == "update" and working.entity is None:
            raise NotFound(f"no entity to update: {describe(working.key)}")

    def _conflicts(self, mutation: Message, working: _Working) -> bool:
        """Return whether the entity's version differs from the one that a mutation expects.

        Raises:
            FailedPrecondition: the versions differ and the mutation asks to fail then.
        """
        strategy = mutation.WhichOneof("conflict_detection_strategy")
        if strategy is None:
            return False
        current = self._version(working)
        expected = mutation.base_version if strategy == "base_version" else timestamp_micros(mutation.update_time)
        if current == expected:
            return False
        if mutation.conflict_resolution_strategy == Mutation.FAIL:
            raise FailedPrecondition(
                f"Conflict on {describe(working.key)}: the stored version ({current}) does not match the required "
                f"base version ({expected})."
            )
        return True

    def _changed(self, working: _Working) -> bool:
        """Return whether the entity must be stored. Writing an equal entity keeps its version."""
        if working.before is None or working.entity is None:
            return working.before is not working.entity
        return working.deleted or bool(working.entity != working.before)

    def _version(self, working: _Working) -> int:
        if working.written:
            return self.version
        return working.stored.version if working.stored is not None else 0

    def _written(self, mutation: Message, working: _Working) -> EntityMessage:
        entity = mutation_entity(mutation)
        if not mutation.HasField("property_mask"):
            return entity
        masked = Entity(key=entity.key)
        if working.entity is not None:
            masked.CopyFrom(working.entity)
        property_paths.copy(entity, masked, property_paths.parse_mask(mutation.property_mask))
        return masked

    def _report(self, result: Message, working: _Working) -> None:
        """Set the entity's version and times after the whole commit in the result of a mutation."""
        result.version = self._version(working) or self.version
        if working.entity is not None:
            kept = working.stored if not working.deleted else None
            set_timestamp(result.update_time, result.version)
            set_timestamp(result.create_time, kept.created if kept is not None else self.version)


def _check_strategy(mutation: Message, key: KeyMessage) -> None:
    """Check a mutation's conflict detection and resolution strategies."""
    detection = mutation.WhichOneof("conflict_detection_strategy")
    if detection is None:
        if mutation.conflict_resolution_strategy:
            raise InvalidArgument("cannot set a conflict resolution strategy if no detection strategy was set")
        return
    if mutation.conflict_resolution_strategy not in Mutation.ConflictResolutionStrategy.values():
        raise InvalidArgument("Unknown conflict resolution strategy.")
    if not validation.is_complete(key):
        raise InvalidArgument("conflict detection is not allowed for incomplete keys")
    if mutation.base_version < 0:
        raise InvalidArgument(f"Invalid base_version: {mutation.base_version}, it should be >= 0")
    if mutation.base_version and mutation.WhichOneof("operation") == "insert":
        raise InvalidArgument("Cannot insert an entity with a base version greater than zero")


def mutation_entity(mutation: Message) -> EntityMessage:
    """Return the entity of an insert, update or upsert."""
    return getattr(mutation, mutation.WhichOneof("operation"))
