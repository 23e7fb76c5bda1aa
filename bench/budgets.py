"""The budgets of benchmarks: each has a goal, and a guard whose breach makes ``--check`` fail."""

import math
from collections.abc import Mapping
from pathlib import Path

import yaml

from bench.benchmarks import Result

FILE = Path(__file__).with_name("budgets.yaml")

Limit = Mapping[str, float]
"""``times``: minimum ratio to the best peer. ``at_most``: maximum value of our own, in the benchmark's unit.
``growth``: maximum ratio of the cost at the largest size to the cost at the smallest."""

Budgets = Mapping[str, Mapping[str, Limit]]
"""By the name of a benchmark, its limits ``asked`` and ``guard``. Without a guard, ``asked`` is the guard."""


def load() -> Budgets:
    """Return the budgets of this repository."""
    budgets: Budgets = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return budgets


def broken(results: list[Result], budgets: Budgets) -> list[str]:
    """Return a sentence for each result that breaks its guard, or that cannot be compared with it."""
    sentences = []
    for result in results:
        budget = budgets.get(result.name, {})
        reason = shortfall(result, budget.get("guard", budget.get("asked", {})))
        if reason:
            sentences.append(f"{result.name}: {reason}")
    return sentences


def missed(result: Result, budgets: Budgets) -> str:
    """Return how a result misses its goal, or ``""`` if it does not."""
    return shortfall(result, budgets.get(result.name, {}).get("asked", {}))


def shortfall(result: Result, limit: Limit) -> str:
    """Return how a result misses a limit, or ``""`` if it does not."""
    if not limit:
        return ""
    reached = margin(result, limit)
    if reached is None:
        reason = "; ".join(result.missing.values())
        return "its growth was not measured" if "growth" in limit else f"no peer could be measured ({reason})"
    return "" if reached >= 1 else standing(result, limit)


def margin(result: Result, limit: Limit) -> float | None:
    """Return how many times better than a limit a result is, or None if it cannot be compared with it."""
    if "at_most" in limit:
        value = result.median(result.ours)
        return limit["at_most"] / value if value else math.inf
    if "growth" in limit:
        growth = result.growth()
        return None if growth is None else limit["growth"] / growth
    peer = result.best_peer()
    return None if peer is None else result.ratio(peer) / limit["times"]


def standing(result: Result, limit: Limit) -> str:
    """Return a result and a limit that it can be compared with, in words."""
    if "at_most" in limit:
        return f"{result.median(result.ours):.3g} {result.unit}, the limit is {limit['at_most']}"
    if "growth" in limit:
        return f"{result.growth():.2f} times the cost {result.largest()}, the limit is {limit['growth']}"
    peer = result.best_peer() or ""
    return f"{result.ratio(peer):.2f} times {peer}, the limit is {limit['times']}"
