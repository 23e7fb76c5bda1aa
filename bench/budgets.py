"""What lines are held to: the goal that was asked for, and the guard below which ``--check`` fails."""

from collections.abc import Mapping
from pathlib import Path

import yaml

from bench.lines import Answer

FILE = Path(__file__).with_name("budgets.yaml")

Limit = Mapping[str, float]
"""``times``: the least ratio to the best peer; ``at_most``: the largest figure of ours, in the line's unit;
``growth``: how many times what it costs at the smallest size something may cost at the largest."""

Budgets = Mapping[str, Mapping[str, Limit]]
"""For the name of a line, ``asked`` and ``guard``; a line without a guard is held to what was asked."""


def load() -> Budgets:
    """Return the budgets of this repository."""
    budgets: Budgets = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return budgets


def broken(answers: list[Answer], budgets: Budgets) -> list[str]:
    """Return a sentence for each line that breaks its guard, or that has one and could not be held to it."""
    sentences = []
    for answer in answers:
        budget = budgets.get(answer.name, {})
        reason = shortfall(answer, budget.get("guard", budget.get("asked", {})))
        if reason:
            sentences.append(f"{answer.name}: {reason}")
    return sentences


def missed(answer: Answer, budgets: Budgets) -> str:
    """Return why a line is not where it was asked to be, or ``""``."""
    return shortfall(answer, budgets.get(answer.name, {}).get("asked", {}))


def shortfall(answer: Answer, limit: Limit) -> str:
    """Return how a line misses a limit, or ``""``."""
    if "at_most" in limit and (figure := answer.median(answer.ours)) > limit["at_most"]:
        return f"{figure:.3g} {answer.unit}, the limit is {limit['at_most']}"
    if "growth" in limit:
        growth = answer.growth()
        if growth is None:
            return "its growth could not be measured"
        if growth > limit["growth"]:
            return f"{growth:.2f} times the cost {answer.largest()}, the limit is {limit['growth']}"
    if "times" not in limit:
        return ""
    peer = answer.best_peer()
    if peer is None:
        return f"no peer could be measured ({'; '.join(answer.missing.values())})"
    ratio = answer.ratio(peer)
    return "" if ratio >= limit["times"] else f"{ratio:.2f} times {peer}, the limit is {limit['times']}"
