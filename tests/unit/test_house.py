"""The structure of the house: imports between its parts, and the contents of the wheel."""

import ast
import functools
import graphlib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[2]
RUNTIME = ROOT / "lib" / "src" / "gae_deferred"
LOCAL_CLOUD = ROOT / "local-cloud" / "src" / "gae_local_cloud"
PACKAGES = (RUNTIME, LOCAL_CLOUD, ROOT / "deploy", ROOT / "bench")


def module_name(path: Path, top: Path) -> str:
    parts = path.relative_to(top.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def import_statements(path: Path) -> list[ast.Import | ast.ImportFrom]:
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]


def imports(path: Path, modules: set[str]) -> Iterator[str]:
    """Yield the given modules that a file imports anywhere, also in functions and for type checkers only."""
    for node in import_statements(path):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name in modules)
        elif node.module:
            for name in node.names:
                inner = f"{node.module}.{name.name}"
                if inner in modules or node.module in modules:
                    yield inner if inner in modules else node.module


def graph(top: Path) -> dict[str, set[str]]:
    """Return for each module of a package the modules of the same package that it imports."""
    own = (path for path in top.rglob("*.py") if not any(part.startswith(".") for part in path.relative_to(top).parts))
    files = {module_name(path, top): path for path in own}  # bench/.environments holds packages of others
    return {name: set(imports(path, {*files})) - {name} for name, path in files.items()}


def siblings(modules: dict[str, set[str]], parent: str) -> dict[str, set[str]]:
    """Return the graph of the rooms of a package. A room is a module, or a package with all its modules."""
    depth = parent.count(".") + 2

    def room(name: str) -> str | None:
        inside = name.startswith(f"{parent}.")
        return ".".join(name.split(".")[:depth]) if inside else None

    rooms: dict[str, set[str]] = {}
    for name, imported in modules.items():
        own = room(name)
        if own is not None:
            rooms.setdefault(own, set()).update(other for each in imported if (other := room(each)) and other != own)
    return rooms


@pytest.mark.parametrize("top", PACKAGES, ids=lambda top: top.name)
def test_no_module_imports_one_that_imports_it(top: Path):
    modules = graph(top)
    assert len(modules) > 10
    inner = {name: {other for other in imported if other != top.name} for name, imported in modules.items()}
    graphlib.TopologicalSorter(inner).prepare()  # raises CycleError and names the cycle


@pytest.mark.parametrize("top", PACKAGES, ids=lambda top: top.name)
def test_no_room_imports_one_that_depends_on_it(top: Path):
    modules = graph(top)
    for parent in {name.rpartition(".")[0] for name in modules} - {""}:
        graphlib.TopologicalSorter(siblings(modules, parent)).prepare()


def test_a_cycle_is_noticed():
    modules = {"a.x": {"a.y.z"}, "a.y.z": set(), "a.y.w": {"a.x"}}
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter(siblings(modules, "a")).prepare()


def test_only_the_test_fixture_imports_the_local_cloud():
    local_cloud = {module_name(path, LOCAL_CLOUD) for path in LOCAL_CLOUD.rglob("*.py")}
    importing = {path.relative_to(RUNTIME) for path in RUNTIME.rglob("*.py") if [*imports(path, local_cloud)]}
    assert {path.parts[0] for path in importing} == {"testing"}


def test_the_local_cloud_imports_nothing_of_the_runtime():
    runtime = {module_name(path, RUNTIME) for path in RUNTIME.rglob("*.py")}
    for path in LOCAL_CLOUD.rglob("*.py"):
        assert [*imports(path, runtime)] == [], path


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Return the wheel of the runtime, made by its build backend."""
    (path,) = WheelBuilder(str(ROOT / "lib")).build(directory=str(tmp_path_factory.mktemp("wheel")))
    return zipfile.ZipFile(path)


def test_the_wheel_of_the_runtime_holds_no_server(wheel: zipfile.ZipFile):
    serving = ("import aiohttp", "from aiohttp", "import gunicorn", "from gunicorn", "grpc.aio", "sqlite3")
    for name in wheel.namelist():
        text = wheel.read(name).decode()
        assert not [word for word in serving if word in text], name


def test_the_runtime_stays_small_enough_to_read(wheel: zipfile.ZipFile):
    lines = sum(wheel.read(name).count(b"\n") for name in wheel.namelist() if name.endswith(".py"))
    # 5,500 when the house was built; promises and proofs took 3,200, tenants, asyncio and commands for queues 1,400.
    assert 3000 < lines < 10_500


def test_no_two_helpers_of_tests_that_import_each_other_by_name_have_the_same():
    folders = (ROOT / "tests/unit", ROOT / "tests/integration/runtime")
    helpers = [{file.name for file in folder.glob("*.py")} - {"__init__.py", "conftest.py"} for folder in folders]
    both = helpers[0] & helpers[1]
    imported = {f"{name}.py" for top in folders for name in top_level_imports(top)}
    assert not both & imported, "which of them is imported depends on the order of the tests"


def top_level_imports(top: Path) -> set[str]:
    nodes = [node for file in top.glob("*.py") for node in import_statements(file)]
    return {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
