"""The files in results/: what was measured, when, on what, with which versions."""

import dataclasses
import datetime
import hashlib
import json
import os
import platform
import re
import statistics
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from bench import peers
from bench.lines import SEED, Answer

FOLDER = Path(__file__).with_name("results")

BEFORE = FOLDER / "before"
"""Files of the same lines, measured with an earlier state of the library: what an improvement is compared with."""

_LIBRARIES = ("gae-deferred", "grpcio", "google-cloud-tasks", "google-cloud-ndb", "aiohttp", "gunicorn")


@dataclasses.dataclass
class Results:
    """One file.

    Attributes:
        path: where it is.
        machine: what it was measured on.
        versions: of ours and of the peers.
        answers: by the name of the line.
    """

    path: Path
    machine: dict[str, Any]
    versions: dict[str, str]
    answers: dict[str, Answer]

    def line(self, name: str) -> Answer:
        """Return a line.

        Raises:
            LookupError: it was not measured.
        """
        if name not in self.answers:
            raise LookupError(f"{self.path.name} has no line {name}")
        return self.answers[name]

    @property
    def digest(self) -> str:
        """What tells it from any other file."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()[:16]


def beside(answer: Answer, contender: str, what: str) -> float:
    """Return the median of what a contender's runs have shown beside the figure, such as ``"ms p99"``.

    Raises:
        LookupError: they have shown no such thing.
    """
    values = answer.beside.get(contender, {}).get(what)
    if not values:
        raise LookupError(f"{answer.name} has no {what!r} of {contender}")
    return statistics.median(values)


def load(path: Path) -> Results:
    """Read a file."""
    data = json.loads(path.read_text(encoding="utf-8"))
    fields = {field.name for field in dataclasses.fields(Answer)}
    answers = {
        name: Answer(name=name, **{key: value for key, value in line.items() if key in fields})
        for name, line in data["lines"].items()
    }
    return Results(path, data["machine"], data["versions"], answers)


def newest(folder: Path | None = None) -> Results:
    """Read the newest file of a folder; without one, of :data:`FOLDER`: it is what README and docs show.

    Raises:
        LookupError: there is none.
    """
    folder = folder or FOLDER
    path = max(folder.glob("*.json"), default=None)
    if path is None:
        raise LookupError(f"There are no results in {folder}")
    return load(path)


def save(answers: list[Answer], path: Path) -> None:
    """Put answers into a file, in place of those of the same lines that it holds.

    Raises:
        ValueError: the file is of another machine.
    """
    kept = load(path) if path.exists() else Results(path, machine(), {}, {})
    if kept.machine != machine():
        raise ValueError(
            f"{path} was measured on another machine: {kept.machine}; keep that file, or move it out of the way"
        )
    kept.versions.update(versions())
    kept.answers.update((answer.name, answer) for answer in answers)
    record = {
        "machine": kept.machine,
        "versions": dict(sorted(kept.versions.items())),
        "seed": SEED,
        "lines": {name: _as_json(answer) for name, answer in kept.answers.items()},
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def today() -> Path:
    """Return the file of this day."""
    return FOLDER / f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}.json"


def machine() -> dict[str, Any]:
    """Return what is measured on."""
    return {
        "processor": _first(r"model name\s*:\s*(.*)", "/proc/cpuinfo"),
        "processors": os.cpu_count(),
        "memory_gb": round(int(_first(r"MemTotal:\s*(\d+)", "/proc/meminfo") or 0) * 1024 / 1e9),
        "system": platform.platform(),
        "python": sys.version.split()[0],
    }


def versions() -> dict[str, str]:
    """Return the versions of our libraries, and of the peers that this machine has."""
    return {name: metadata.version(name) for name in _LIBRARIES} | peers.versions()


def _as_json(answer: Answer) -> dict[str, Any]:
    """Return what is measured, with what follows from it for those who read the file and not through this module."""
    record = dataclasses.asdict(answer)
    del record["name"]
    return record | {
        "ratios": {peer: answer.ratio(peer) for peer in answer.peers()},
        "exponent": answer.exponent(),
    }


def _first(pattern: str, file: str) -> str:
    path = Path(file)
    match = re.search(pattern, path.read_text()) if path.exists() else None
    return match[1] if match else ""
