"""Rules for the indexes that a query needs in production, where ``index.yaml`` declares composite indexes.

The embedded Datastore needs no declarations: :mod:`gae_local_cloud.datastore.composites` builds indexes when they pay.
These rules tell what a deployed app needs.
"""

from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from gae_local_cloud.datastore.filters import KEY, Conjunction
from gae_local_cloud.datastore.indexes import Component
from gae_local_cloud.datastore.query import Query

_COLLECTION_GROUP = "Collection group"
_INCLUDES_ANCESTORS = "Includes ancestors"


class CompositeIndex(NamedTuple):
    """A composite index as ``index.yaml`` declares it."""

    kind: str
    ancestor: bool
    components: tuple[Component, ...]


class Requirement(NamedTuple):
    """The need of one conjunction of a query for an index.

    Parameters:
        kind: the kind of the query.
        ancestor: whether the query has an ancestor filter.
        equal: properties with equality filters.
        suffix: components that sort or have ranges, which follow in an index.
    """

    kind: str
    ancestor: bool
    equal: frozenset[str]
    suffix: tuple[Component, ...]

    @property
    def built_in(self) -> bool:
        """Whether the built-in indexes of single properties meet the need."""
        if not self.suffix:
            return True
        return len(self.suffix) == 1 and not self.equal and not self.ancestor and self.suffix[0] != (KEY, True)

    @property
    def composite(self) -> CompositeIndex:
        """The one composite index that meets the need."""
        fixed = (Component(name) for name in sorted(self.equal))
        return CompositeIndex(self.kind, self.ancestor, (*fixed, *self.suffix))

    def served_by(self, declared: Iterable[CompositeIndex]) -> bool:
        """Return whether built-in or declared indexes meet the need.

        Several indexes may meet it together: each begins with some of the ``equal`` properties and ends with the whole
        suffix, and a merge finds the entries that are in all of them.
        """
        if self.built_in:
            return True
        covered: set[str] = set()
        found = False
        for index in declared:
            leading = index.components[: len(index.components) - len(self.suffix)]
            fixed = {name for name, _ in leading}
            if (
                (index.kind, index.ancestor) == (self.kind, self.ancestor)
                and index.components[len(leading) :] == self.suffix
                and fixed <= self.equal
            ):
                found = True
                covered |= fixed
        return found and covered == self.equal


def requirements(query: Query) -> Iterator[Requirement]:
    """Yield the needs of each conjunction of a query. A query without a kind needs no index."""
    if query.kind is None or query.kind.startswith("__"):
        return
    seen: set[Requirement] = set()
    for conjunction in query.conjunctions:
        requirement = _requirement(query, query.kind, conjunction)
        if requirement not in seen:
            seen.add(requirement)
            yield requirement


def arranged(query: Query, declared: Collection[CompositeIndex]) -> Query:
    """Return a query with its unordered properties in the sequence of the index that serves it.

    An unordered projection comes in the order of that index. If several declared indexes serve the query, the first one
    counts; if none does, the properties stay sorted by name, as in Google's Firestore emulator.
    """
    if not query.unordered or _serve(query, declared):
        return query
    for index in declared:
        tail = index.components[-len(query.unordered) :]
        if index.kind == query.kind and sorted(name for name, _ in tail) == sorted(query.unordered):
            found = query.arranged(tail)
            if _serve(found, declared):
                return found
    return query


def _serve(query: Query, declared: Collection[CompositeIndex]) -> bool:
    return all(requirement.served_by(declared) for requirement in requirements(query))


def _requirement(query: Query, kind: str, conjunction: Conjunction) -> Requirement:
    equal = frozenset(conjunction.equal) - {KEY}
    suffix = [component for component in query.order if component.property not in conjunction.equal]
    suffix += [Component(name) for name in query.required if name not in conjunction.equal]
    if suffix and suffix[-1].property == KEY:
        # Every index ends with the key, in the direction of its last component.
        direction = suffix[-2].descending if len(suffix) > 1 else False
        if suffix[-1].descending == direction:
            suffix.pop()
    return Requirement(kind, conjunction.ancestor is not None, equal, tuple(suffix))


def indexes_used(query: Query) -> list[dict[str, str]]:
    """Return the indexes that serve a query, in the form of ``PlanSummary.indexes_used``."""
    found: list[dict[str, str]] = []
    for requirement in requirements(query):
        if not requirement.built_in:
            scope = _INCLUDES_ANCESTORS if requirement.ancestor else _COLLECTION_GROUP
            found.append(_describe(requirement.composite.components, scope))
        elif requirement.suffix:
            found.append(_describe(requirement.suffix))
        elif requirement.equal:
            found.extend(_describe((Component(name),)) for name in sorted(requirement.equal))
        else:
            found.append(_describe(()))
    return found or [_describe(())]


def _describe(components: tuple[Component, ...], scope: str = _COLLECTION_GROUP) -> dict[str, str]:
    last = components[-1].descending if components else False
    named = [(name, down) for name, down in components if name != KEY] + [("__name__", last)]
    properties = ", ".join(f"{name} {'DESC' if down else 'ASC'}" for name, down in named)
    return {"query_scope": scope, "properties": f"({properties})"}
