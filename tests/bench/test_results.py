"""Result files of benchmarks: reading, writing and replacing results."""

import json
from pathlib import Path

import pytest

from bench import peers, results
from bench.benchmarks import Result


@pytest.fixture(autouse=True)
def _the_same_peers_on_every_machine(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(peers, "versions", lambda: {"peer": "1.0"})


def result(name: str, *figures: float) -> Result:
    return Result(
        name,
        "How fast?",
        "things/s",
        True,
        "us",
        {"us": list(figures), "them": [1.0] * len(figures)},
        {"us": {"ms p99": [7.0]}},
        missing={"it": "is not there"},
        seconds=1.5,
        time="2026-01-02T03:04:05+00:00",
    )


def test_saved_results_can_be_loaded(tmp_path: Path):
    file = tmp_path / "2026-01-02.json"
    results.save([result("speed", 1.0, 2.0)], file)
    read = results.load(file)
    assert read.result("speed") == result("speed", 1.0, 2.0)
    assert (read.machine, read.versions["peer"]) == (results.machine(), "1.0")


def test_a_result_replaces_that_of_the_same_benchmark_and_leaves_the_others(tmp_path: Path):
    file = tmp_path / "2026-01-02.json"
    results.save([result("speed", 1.0), result("size", 5.0)], file)
    results.save([result("speed", 2.0)], file)
    assert results.load(file).results == {"speed": result("speed", 2.0), "size": result("size", 5.0)}


def test_a_file_holds_results_of_one_machine(tmp_path: Path):
    file = tmp_path / "2026-01-02.json"
    results.save([result("speed", 1.0)], file)
    record = json.loads(file.read_text())
    record["machine"]["processors"] = 4711
    file.write_text(json.dumps(record))
    with pytest.raises(ValueError, match="4711"):
        results.save([result("speed", 2.0)], file)
    assert results.load(file).result("speed").figures["us"] == [1.0]


def test_the_newest_file_is_that_of_the_latest_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    with pytest.raises(LookupError, match="no results"):
        results.newest()
    for day in ("2026-02-01", "2025-12-31", "2026-01-31"):
        results.save([result("speed", 1.0)], tmp_path / f"{day}.json")
    assert results.newest().path.stem == "2026-02-01"


def test_a_benchmark_that_was_not_measured_is_named(tmp_path: Path):
    results.save([result("speed", 1.0)], tmp_path / "2026-01-02.json")
    with pytest.raises(LookupError, match=r"2026-01-02\.json has no benchmark size"):
        results.load(tmp_path / "2026-01-02.json").result("size")


def test_the_files_of_this_repository_can_be_loaded():
    files = sorted(results.FOLDER.rglob("*.json"))
    assert files
    for file in files:
        assert all(result.figures[result.ours] for result in results.load(file).results.values())
