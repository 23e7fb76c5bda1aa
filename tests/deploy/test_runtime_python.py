"""The search for the Python of a runtime."""

from deploy.rehearsal import runtime_python


def test_the_python_that_runs_this_is_found_for_its_runtime():
    own = runtime_python.this_python()

    assert runtime_python.find(own.runtime).version == own.version


def test_a_placeholder_on_the_path_is_skipped(tmp_path, monkeypatch):
    liar = tmp_path / "python3.99"
    liar.write_text("#!/bin/sh\necho 'no such version' >&2\nexit 127\n")
    liar.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert runtime_python.find("python399") is None


def test_a_python_of_another_version_is_skipped(tmp_path, monkeypatch):
    (tmp_path / "python3.99").symlink_to(runtime_python.this_python().path)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert runtime_python.find("python399") is None


def test_the_first_working_python_on_the_path_is_chosen(tmp_path, monkeypatch):
    program = tmp_path / "python3.99"
    program.write_text("#!/bin/sh\necho 3.99.1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'missing'}:{tmp_path}:/usr/bin:/bin")

    assert runtime_python.find("python399") == runtime_python.Python(program, "3.99.1")
