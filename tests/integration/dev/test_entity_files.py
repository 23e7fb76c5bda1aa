"""``gae-deferred data``: entities are exported to a file and imported again."""

from pathlib import Path

from .commands import get, running, until
from .test_dev import APP, app_url, dev


def run(*arguments: str, cwd: Path) -> tuple[int, str]:
    with running("data", *arguments, cwd=cwd) as command:
        return command.wait(), command.output


def test_exported_entities_can_be_imported_elsewhere(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
        (folder / "main.py").write_text(APP)
    with dev(here) as command:
        url = app_url(command)
        get(f"{url}/defer/kept")
        until(lambda: get(f"{url}/read") == (200, "kept"), "the task's effect")
        refused = run("export", "file", cwd=here)
        assert refused[0] == 1
        assert "in use by another local cloud" in refused[1]
        command.process.terminate()
        command.wait()
    assert run("export", "../file", cwd=here) == (0, "1 entities of .local-cloud are in ../file\n")
    assert run("import", "../file", cwd=there) == (0, "1 entities of ../file are in .local-cloud\n")
    with dev(there) as command:
        assert get(f"{app_url(command)}/read") == (200, "kept")


def test_a_folder_without_data_and_an_invalid_file_are_reported(tmp_path):
    code, output = run("export", "file", cwd=tmp_path)
    assert (code, "There are no entities in .local-cloud" in output) == (1, True)
    (tmp_path / "file").write_text("{}\nnot an entity\n")
    code, output = run("import", "file", cwd=tmp_path)
    assert (code, "Error: file, line" in output) == (1, True)
