"""Result files: what was measured, when, on which machine and with which versions."""

import dataclasses
import datetime
import hashlib
import json
import os
import platform
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from bench import peers
from bench.benchmarks import SEED, Result

FOLDER = Path(__file__).with_name("results")

_LIBRARIES = ("gae-deferred", "grpcio", "google-cloud-tasks", "google-cloud-ndb", "aiohttp", "gunicorn")


@dataclasses.dataclass
class ResultFile:
    """One file.

    Attributes:
        path: of the file.
        machine: the machine that the benchmarks ran on.
        versions: of our libraries and of the peers.
        results: by the name of the benchmark.
    """

    path: Path
    machine: dict[str, Any]
    versions: dict[str, str]
    results: dict[str, Result]

    def result(self, name: str) -> Result:
        """Return the result of a benchmark.

        Raises:
            LookupError: the file has no result of this name.
        """
        if name not in self.results:
            raise LookupError(f"{self.path.name} has no benchmark {name}")
        return self.results[name]

    @property
    def digest(self) -> str:
        """A hash of the file's contents, which plots name as their source."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()[:16]


def load(path: Path) -> ResultFile:
    """Read a file."""
    data = json.loads(path.read_text(encoding="utf-8"))
    fields = {field.name for field in dataclasses.fields(Result)}
    results = {
        name: Result(name=name, **{key: value for key, value in record.items() if key in fields})
        for name, record in data["lines"].items()
    }
    return ResultFile(path, data["machine"], data["versions"], results)


def newest(folder: Path | None = None) -> ResultFile:
    """Read the newest file of a folder. The default is :data:`FOLDER`, whose newest file README and docs show.

    Raises:
        LookupError: the folder has no file.
    """
    folder = folder or FOLDER
    path = max(folder.glob("*.json"), default=None)
    if path is None:
        raise LookupError(f"There are no results in {folder}")
    return load(path)


def save(results: list[Result], path: Path) -> None:
    """Put results into a file, in place of its results of the same benchmarks.

    Raises:
        ValueError: the file was measured on another machine.
    """
    file = load(path) if path.exists() else ResultFile(path, machine(), {}, {})
    if file.machine != machine():
        raise ValueError(f"{path} was measured on another machine: {file.machine}. Move it away to start a new file.")
    file.versions.update(versions())
    file.results.update((result.name, result) for result in results)
    record = {
        "machine": file.machine,
        "versions": dict(sorted(file.versions.items())),
        "seed": SEED,
        "lines": {name: _as_json(result) for name, result in file.results.items()},
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def today() -> Path:
    """Return the path of today's file (UTC)."""
    return FOLDER / f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}.json"


def machine() -> dict[str, Any]:
    """Return a description of this machine."""
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


def _as_json(result: Result) -> dict[str, Any]:
    """Return a result with its ratios and exponent, for readers of the file that do not use this module."""
    record = dataclasses.asdict(result)
    del record["name"]
    return record | {
        "ratios": {peer: result.ratio(peer) for peer in result.peers()},
        "exponent": result.exponent(),
    }


def _first(pattern: str, file: str) -> str:
    path = Path(file)
    match = re.search(pattern, path.read_text()) if path.exists() else None
    return match[1] if match else ""
