"""Result files of the benchmark: they are kept, and newer ones replace them."""

import json
from pathlib import Path

import pytest

from bench import peers, results
from bench.lines import Answer


@pytest.fixture(autouse=True)
def _peers_of_no_machine(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(peers, "versions", lambda: {"peer": "1.0"})


def answer(name: str, *figures: float) -> Answer:
    return Answer(
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


def test_saved_results_are_read_back(tmp_path: Path):
    file = tmp_path / "2026-01-02.json"
    results.save([answer("speed", 1.0, 2.0)], file)
    read = results.load(file)
    assert read.line("speed") == answer("speed", 1.0, 2.0)
    assert (read.machine, read.versions["peer"]) == (results.machine(), "1.0")


def test_a_line_takes_the_place_of_itself_and_leaves_the_others(tmp_path: Path):
    file = tmp_path / "2026-01-02.json"
    results.save([answer("speed", 1.0), answer("size", 5.0)], file)
    results.save([answer("speed", 2.0)], file)
    assert results.load(file).answers == {"speed": answer("speed", 2.0), "size": answer("size", 5.0)}


def test_machines_are_not_mixed_in_one_file(tmp_path: Path):
    file = tmp_path / "2026-01-02.json"
    results.save([answer("speed", 1.0)], file)
    record = json.loads(file.read_text())
    record["machine"]["processors"] = 4711
    file.write_text(json.dumps(record))
    with pytest.raises(ValueError, match="4711"):
        results.save([answer("speed", 2.0)], file)
    assert results.load(file).line("speed").figures["us"] == [1.0]


def test_the_newest_file_is_the_one_of_the_latest_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    with pytest.raises(LookupError, match="no results"):
        results.newest()
    for day in ("2026-02-01", "2025-12-31", "2026-01-31"):
        results.save([answer("speed", 1.0)], tmp_path / f"{day}.json")
    assert results.newest().path.stem == "2026-02-01"


def test_a_line_that_was_not_measured_is_named(tmp_path: Path):
    results.save([answer("speed", 1.0)], tmp_path / "2026-01-02.json")
    with pytest.raises(LookupError, match=r"2026-01-02\.json has no line size"):
        results.load(tmp_path / "2026-01-02.json").line("size")
