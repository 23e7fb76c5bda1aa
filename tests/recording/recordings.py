"""Recordings: facts about a service, with their source, in files. And how two of them differ."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.recording import cloud_tasks, datastore
from tests.recording.target import Target

FOLDER = Path(__file__).parents[1] / "conformance" / "recordings"
PROBES = {"cloud-tasks": cloud_tasks.PROBES, "datastore": datastore.PROBES}
MEASUREMENTS = {"cloud-tasks": cloud_tasks.MEASUREMENTS, "datastore": ()}


Probe = Callable[[Target], Awaitable[dict[str, Any]]]


@dataclass(frozen=True)
class Recording:
    """Facts about a service.

    Attributes:
        service: ``cloud-tasks`` or ``datastore``.
        date: day of the recording, or the days.
        source: who recorded it, with what.
        facts: the facts of each probe, by its name. A recording need not have all.
        settings: options of the local cloud that has the same settings, such as its concurrency mode.
        measurements: numbers that differ from run to run.
    """

    service: str
    date: str
    source: str
    facts: Mapping[str, Any]
    settings: Mapping[str, str]
    measurements: Mapping[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        """Return the recording as its file has it."""
        return json.dumps(vars(self), indent=2) + "\n"


def read(file: Path) -> Recording:
    """Read a recording."""
    return Recording(**json.loads(file.read_text()))


async def facts(target: Target, probes: Sequence[Probe]) -> dict[str, Any]:
    """Ask the questions of probes. A probe that lacks the receiver has no facts."""
    found = {}
    for probe in probes:
        if answer := await probe(target):
            found[probe.__name__] = json.loads(json.dumps(answer))  # as a file returns it
    return found


def differences(recorded: Any, found: Any, name: str = "") -> dict[str, tuple[Any, Any]]:
    """Return by name the facts that were recorded and are otherwise now: the recorded value and today's."""
    if isinstance(recorded, dict) and isinstance(found, dict):
        different = {}
        for key, value in recorded.items():
            different |= differences(value, found.get(key), f"{name} / {key}" if name else key)
        return different
    return {} if recorded == found else {name: (recorded, found)}


def known_differences(service: str) -> dict[str, str]:
    """Return the reason of each difference between production and the local cloud that we know, by its name."""
    known = yaml.safe_load((FOLDER / "known_differences.yaml").read_text())
    return {name: entry["reason"] for entry in known[service] for name in entry["facts"]}
