"""Which indexes a query needs in production, where composite indexes have to be declared in ``index.yaml``.

The embedded Datastore itself does without declarations: :mod:`gae_local_cloud.datastore.composites` makes indexes
when they pay. These rules are about what a deployed app will find.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from gae_local_cloud.datastore.filters import KEY, Conjunction
from gae_local_cloud.datastore.indexes import Component
from gae_local_cloud.datastore.query import Query


class CompositeIndex(NamedTuple):
    """A composite index as ``index.yaml`` declares it."""

    kind: str
    ancestor: bool
    components: tuple[Component, ...]


class Requirement(NamedTuple):
    """What serves one conjunction of a query.

    Parameters:
        kind: the kind of the query.
        ancestor: whether it has an ancestor filter.
        equal: the properties that equality filters fix.
        suffix: what it sorts by or has ranges on after those.
    """

    kind: str
    ancestor: bool
    equal: frozenset[str]
    suffix: tuple[Component, ...]

    @property
    def built_in(self) -> bool:
        """Whether the indexes that every property has are enough."""
        if not self.suffix:
            return True
        return len(self.suffix) == 1 and not self.equal and not self.ancestor and self.suffix[0] != (KEY, True)

    @property
    def composite(self) -> CompositeIndex:
        """The one composite index that serves it."""
        fixed = (Component(name) for name in sorted(self.equal))
        return CompositeIndex(self.kind, self.ancestor, (*fixed, *self.suffix))

    def served_by(self, declared: Iterable[CompositeIndex]) -> bool:
        """Return whether built-in or declared indexes serve it.

        Several may do so together: each sorts by the whole suffix and begins with some of the properties that are
        fixed, and where they agree are the results.
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
    """Yield what serves each conjunction of a query; nothing for one without a kind, which needs no index."""
    if query.kind is None or query.kind.startswith("__"):
        return
    seen: set[Requirement] = set()
    for conjunction in query.conjunctions:
        requirement = _requirement(query, query.kind, conjunction)
        if requirement not in seen:
            seen.add(requirement)
            yield requirement


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
    """Return the indexes that serve a query, as ``PlanSummary.indexes_used`` describes them."""
    found: list[tuple[Component, ...]] = []
    for requirement in requirements(query):
        if not requirement.built_in:
            found.append(requirement.composite.components)
        elif requirement.suffix:
            found.append(requirement.suffix)
        elif requirement.equal:
            found.extend((Component(name),) for name in sorted(requirement.equal))
        else:
            found.append(())
    return [{"query_scope": "Collection group", "properties": _describe(components)} for components in found or [()]]


def _describe(components: tuple[Component, ...]) -> str:
    last = components[-1].descending if components else False
    named = [(name, down) for name, down in components if name != KEY] + [("__name__", last)]
    return "(" + ", ".join(f"{name} {'DESC' if down else 'ASC'}" for name, down in named) + ")"
