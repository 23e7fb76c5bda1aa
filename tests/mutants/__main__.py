"""Plants faults into modules and runs the tests of the lines that have them: ``nox -s mutants``.

A mutant is killed if a test fails or does not end. The job fails if less than 95 % are killed, apart from those that
equivalent.yaml lists with their reasons.
"""

import argparse
import compileall
import contextlib
import functools
import hashlib
import importlib
import json
import multiprocessing
import os
import py_compile
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.mutants.mutation import Mutant, mutants_of

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Package:
    """The code to plant faults into.

    Attributes:
        name: name of the package.
        top: folder that has it.
        modules: patterns of the paths of its modules.
        tests: folders and files of its tests.
        loaded: modules that its tests import, and whose code stays as it is.
    """

    name: str
    top: Path
    modules: tuple[str, ...]
    tests: tuple[str, ...]
    loaded: tuple[str, ...]


RUNTIME = Package(
    "gae_deferred",
    ROOT / "lib/src",
    ("**/*.py",),
    (
        *("tests/unit", "tests/integration/runtime"),
        *("tests/integration/dev/test_queue_commands.py", "tests/integration/dev/test_signing_key.py"),
    ),
    ("google.cloud.ndb", "google.cloud.tasks_v2", "hypothesis", "gae_local_cloud.cloud", "flask", "django"),
)
SERVERS = Package(
    "gae_local_cloud",
    ROOT / "local-cloud/src",
    ("cloud_tasks/*.py", "datastore/*.py", "clock.py", "storage.py"),
    (
        *("tests/integration/cloud_tasks", "tests/integration/datastore"),
        *("tests/integration/dev/test_clock.py", "tests/integration/dev/test_storage.py"),
    ),
    ("google.cloud.ndb", "google.cloud.tasks_v2", "hypothesis", "grpc.aio", "aiohttp"),
)
IRRELEVANT = "not (house or pythons or noxfile or workflows or run.py or node_client)"
DEAD = ("killed", "timeout")
TO_KILL = 0.95
MAX_SECONDS = 60.0
"""Seconds of tests for one mutant, by their measured durations."""

MAX_WAIT = 5 * MAX_SECONDS
"""Seconds after which these tests count as hanging: a machine can be busier than it was when they were measured."""

MAX_CPU = 3 * int(MAX_SECONDS)
"""Seconds of processor time after which a process counts as one in an endless loop. On a busy machine the same
tests take more processor time than was measured.
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="mutants", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("modules", nargs="*", help="ends of paths of modules, such as signing.py; all by default")
    parser.add_argument("--servers", action="store_true", help="the local cloud instead of the runtime")
    parser.add_argument("--all", action="store_true", help="every mutant instead of a sample")
    parser.add_argument("--sample", type=int, default=200, help="size of the sample (200)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the sample (1)")
    parser.add_argument("--tests", nargs="+", help="tests to choose from; by default all of the package")
    options = parser.parse_args()
    package = SERVERS if options.servers else RUNTIME
    mutants = [
        mutant
        for pattern in package.modules
        for file in sorted((package.top / package.name).glob(pattern))
        if not options.modules or str(file).endswith(tuple(f"/{module}" for module in options.modules))
        for mutant in mutants_of(str(file.relative_to(ROOT)), file.read_text())
    ]
    if not options.all and len(mutants) > options.sample:
        chance = random.Random(options.seed)  # noqa: S311  # reproducible, not secret
        mutants = sorted(chance.sample(mutants, options.sample), key=lambda mutant: (mutant.path, mutant.line))
    coverage = coverage_map(package.name, options.tests or package.tests)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "src")
        shutil.copytree(package.top, copy, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        prepare_process(copy, package.loaded)
        results = []
        for mutant in mutants:
            result = outcome(mutant, copy / (ROOT / mutant.path).relative_to(package.top), tests_of(mutant, coverage))
            results.append((mutant, result))
            print(f"{result:<9} {mutant.path}:{mutant.line}  {mutant.before[:80]}  ->  {mutant.after[:80]}", flush=True)
    sys.exit(report(results))


def coverage_map(package: str, tests: Sequence[str]) -> dict[str, Any]:
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
        subprocess.run([sys.executable, "-m", *command], cwd=ROOT, env=environment, check=False)
    measured = json.loads(file.read_text())
    tests = [*measured["durations"]]
    lines = {
        path: {line: [tests[number] for number in numbers] for line, numbers in each.items()}
        for path, each in measured["lines"].items()
    }
    return measured | {"lines": lines}


def tests_of(mutant: Mutant, coverage: dict[str, Any]) -> list[str]:
    """Return the tests for a mutant: those that run its lines first, then those that name its module, the short first.

    Only names lead to tests that run the module in another process, or only import it.
    """
    module = Path(mutant.path).stem
    durations: dict[str, float] = coverage["durations"]
    lines: dict[str, list[str]] = coverage["lines"].get(str(ROOT / mutant.path), {})
    running = {test for line in lines_of(mutant) for test in lines.get(str(line), []) if test}
    naming = {test for test in durations if names(test, module)}
    others = set() if running else {test for each in lines.values() for test in each if test}
    own = f"test_{module}.py::"

    def rank(test: str) -> tuple[Any, ...]:
        return test not in running, own not in test, test not in naming, durations[test], test

    chosen: list[str] = []
    seconds = 0.0
    for test in sorted(running | naming | others, key=rank):
        seconds += durations[test]
        if chosen and seconds > MAX_SECONDS:
            break
        chosen.append(test)
    return chosen


def lines_of(mutant: Mutant) -> set[int]:
    """Return the numbers of the lines with a fault, and of the lines that use the name that gets the faulty value."""
    lines = {*range(mutant.line, mutant.last + 1)}
    assigned = re.match(r"(\w+)(: [^=]+)? = ", mutant.before)
    if assigned:
        name = re.compile(rf"\b{assigned[1]}\b")
        lines |= {number for number, line in enumerate(mutant.source.splitlines(), start=1) if name.search(line)}
    return lines


def names(test: str, module: str) -> bool:
    """Return whether the file of a test has the name of a module in it."""
    return module in words_of(test.partition("::")[0])


@functools.cache
def words_of(file: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", (ROOT / file).read_text()))


def prepare_process(copy: Path, modules: Iterable[str]) -> None:
    """Let this process's forks, and their children, import the copy; load once what takes long to load."""
    # By its hash a mutant is told from other code of the same size and time.
    compileall.compile_dir(copy, quiet=1, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)
    sys.path.insert(0, str(copy))
    os.environ["PYTHONPATH"] = str(copy)
    os.chdir(ROOT)
    for module in modules:
        importlib.import_module(module)


def outcome(mutant: Mutant, file: Path, tests: list[str]) -> str:
    """Return ``killed``, ``timeout``, ``survived``, or ``no test``."""
    if not tests:
        return "no test"
    original = file.read_text()
    file.write_text(mutant.source)
    try:
        process = multiprocessing.get_context("fork").Process(target=run_tests, args=(tests,))
        process.start()
        assert process.pid
        process.join(MAX_WAIT)
        timed_out = process.is_alive()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # with the processes that the tests have left
        process.join()
    finally:
        file.write_text(original)
    return "timeout" if timed_out else "survived" if process.exitcode == 0 else "killed"


def run_tests(tests: list[str]) -> None:
    os.setsid()
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU, MAX_CPU))  # ends endless loops
    sys.dont_write_bytecode = True
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
