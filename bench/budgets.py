"""The budgets of benchmarks: each has a goal, and a guard whose breach makes ``--check`` fail."""

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
    if "at_most" in limit and (value := result.median(result.ours)) > limit["at_most"]:
        return f"{value:.3g} {result.unit}, the limit is {limit['at_most']}"
    if "growth" in limit:
        growth = result.growth()
        if growth is None:
            return "its growth was not measured"
        if growth > limit["growth"]:
            return f"{growth:.2f} times the cost {result.largest()}, the limit is {limit['growth']}"
    if "times" not in limit:
        return ""
    peer = result.best_peer()
    if peer is None:
        return f"no peer could be measured ({'; '.join(result.missing.values())})"
    ratio = result.ratio(peer)
    return "" if ratio >= limit["times"] else f"{ratio:.2f} times {peer}, the limit is {limit['times']}"
