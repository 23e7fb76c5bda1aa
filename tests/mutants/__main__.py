"""Plants faults into modules and runs the tests of the lines that have them: ``nox -s mutants``.

A mutant is killed if a test fails or does not end. The job fails if less than 95 % are killed, apart from those that
equivalent.yaml lists with their reasons.
"""

import argparse
import contextlib
import hashlib
import importlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.mutants.mutation import Mutant, mutants_of

ROOT = Path(__file__).parents[2]
RUNTIME = (ROOT / "lib/src", "gae_deferred", ["tests/unit", "tests/integration/runtime"])
SERVERS = (
    ROOT / "local-cloud/src",
    "gae_local_cloud",
    ["tests/integration/cloud_tasks", "tests/integration/datastore"],
)
IRRELEVANT = "not (house or pythons or noxfile or workflows or run.py or node_client)"
DEAD = ("killed", "timeout")
TO_KILL = 0.95
MAX_SECONDS = 60.0
"""Seconds of tests for one mutant, by their measured durations."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="mutants", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("modules", nargs="*", help="ends of paths of modules, such as signing.py; all by default")
    parser.add_argument("--servers", action="store_true", help="the local cloud instead of the runtime")
    parser.add_argument("--all", action="store_true", help="every mutant instead of a sample")
    parser.add_argument("--sample", type=int, default=200, help="size of the sample (200)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the sample (1)")
    parser.add_argument("--tests", nargs="+", help="tests to choose from; by default all of the package")
    options = parser.parse_args()
    top, package, tests = SERVERS if options.servers else RUNTIME
    mutants = [
        mutant
        for file in sorted((top / package).rglob("*.py"))
        if not options.modules or str(file).endswith(tuple(f"/{module}" for module in options.modules))
        for mutant in mutants_of(str(file.relative_to(ROOT)), file.read_text())
    ]
    if not options.all and len(mutants) > options.sample:
        chance = random.Random(options.seed)  # noqa: S311  # reproducible, not secret
        mutants = sorted(chance.sample(mutants, options.sample), key=lambda mutant: (mutant.path, mutant.line))
    coverage = coverage_map(package, options.tests or tests)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "src")
        shutil.copytree(top, copy, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        prepare_process(copy)
        results = []
        for mutant in mutants:
            result = outcome(mutant, top, copy, tests_of(mutant, coverage))
            results.append((mutant, result))
            print(f"{result:<9} {mutant.path}:{mutant.line}  {mutant.before[:80]}  ->  {mutant.after[:80]}", flush=True)
    sys.exit(report(results))


def coverage_map(package: str, tests: list[str]) -> dict[str, Any]:
    """Return which test runs which line, measured again when a source or a test has changed."""
    tops = ("lib/src", "local-cloud/src", "tests/unit", "tests/integration")
    files = sorted(file for top in tops for file in (ROOT / top).rglob("*.py"))
    contents = b"".join([*(file.read_bytes() for file in files), *map(str.encode, tests)])
    fingerprint = hashlib.sha256(contents).hexdigest()[:16]
    file = ROOT / ".mutants_cache" / f"{package}-{fingerprint}.json"
    if not file.exists():
        print("Measuring which test runs which line.", flush=True)
        file.parent.mkdir(exist_ok=True)
        # The core of coverage.py for Python 3.14 knows no contexts.
        environment = os.environ | {"MUTANTS_MAP": str(file), "PYTHONPATH": str(ROOT), "COVERAGE_CORE": "ctrace"}
        command = ["pytest", "-q", "-p", "tests.mutants.coverage_map", "-k", IRRELEVANT, *tests]
        subprocess.run([sys.executable, "-m", *command], cwd=ROOT, env=environment, check=True)
    return dict(json.loads(file.read_text()))


def tests_of(mutant: Mutant, coverage: dict[str, Any]) -> list[str]:
    """Return the tests that run a mutant's lines, those of its own module first, then the shortest.

    To lines that run while a module is imported, or in other processes only, each test of the module belongs.
    """
    lines: dict[str, list[str]] = coverage["lines"].get(str(ROOT / mutant.path), {})
    here = {test for line in range(mutant.line, mutant.last + 1) for test in lines.get(str(line), []) if test}
    tests = here or {test for each in lines.values() for test in each if test}
    own = f"test_{Path(mutant.path).name}::"
    chosen: list[str] = []
    seconds = 0.0
    for test in sorted(tests, key=lambda test: (own not in test, coverage["durations"].get(test, 0), test)):
        seconds += coverage["durations"].get(test, 0)
        if chosen and seconds > MAX_SECONDS:
            break
        chosen.append(test)
    return chosen


def prepare_process(copy: Path) -> None:
    """Let this process's forks, and their children, import the copy; load once what takes long to load."""
    sys.path.insert(0, str(copy))
    os.environ["PYTHONPATH"] = str(copy)
    os.chdir(ROOT)
    for module in ("google.cloud.ndb", "google.cloud.tasks_v2", "hypothesis", "grpc.aio", "aiohttp"):
        importlib.import_module(module)


def outcome(mutant: Mutant, top: Path, copy: Path, tests: list[str]) -> str:
    """Return ``killed``, ``timeout``, ``survived``, or ``no test``."""
    if not tests:
        return "no test"
    file = copy / (ROOT / mutant.path).relative_to(top)
    original = file.read_text()
    file.write_text(mutant.source)
    try:
        process = multiprocessing.get_context("fork").Process(target=run_tests, args=(tests,))
        process.start()
        assert process.pid
        process.join(2 * MAX_SECONDS)
        timed_out = process.is_alive()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # with the processes that the tests have left
        process.join()
    finally:
        file.write_text(original)
    return "timeout" if timed_out else "survived" if process.exitcode == 0 else "killed"


def run_tests(tests: list[str]) -> None:
    os.setsid()
    sys.dont_write_bytecode = True  # another mutant may have the same size and time
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    os._exit(int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests])))


def report(results: list[tuple[Mutant, str]]) -> int:
    """Print the numbers of each module and the survivors; return the exit code."""
    known = yaml.safe_load(Path(__file__).with_name("equivalent.yaml").read_text())
    equal = {(each["path"], each["before"], each["after"]) for each in known}
    counted = [(m, result) for m, result in results if result in DEAD or (m.path, m.before, m.after) not in equal]
    total = Counter(mutant.path for mutant, _ in counted)
    killed = Counter(mutant.path for mutant, result in counted if result in DEAD)
    for path, count in sorted(total.items()):
        print(f"{killed[path]:>5} of {count:<5} {path}")
    for mutant, result in counted:
        if result in ("survived", "no test"):
            print(f"\n{result}: {mutant.path}:{mutant.line}\n- {mutant.before}\n+ {mutant.after}")
    rate = killed.total() / max(total.total(), 1)
    equivalent = len(results) - len(counted)
    print(f"\n{killed.total()} of {total.total()} mutants killed ({rate:.1%}); {equivalent} equivalent")
    return 0 if rate >= TO_KILL else 1


if __name__ == "__main__":
    main()
