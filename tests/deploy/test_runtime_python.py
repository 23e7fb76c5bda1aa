"""The Python of a runtime: found where it works, and not where only its name is."""

from deploy.rehearsal import runtime_python


def test_the_python_that_runs_this_is_found_for_its_runtime():
    own = runtime_python.this_python()

    assert runtime_python.find(own.runtime).version == own.version


def test_a_name_on_the_path_that_is_no_such_python_is_passed_over(tmp_path, monkeypatch):
    liar = tmp_path / "python3.99"
    liar.write_text("#!/bin/sh\necho 'no such version' >&2\nexit 127\n")
    liar.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert runtime_python.find("python399") is None


def test_another_version_under_the_name_is_passed_over(tmp_path, monkeypatch):
    (tmp_path / "python3.99").symlink_to(runtime_python.this_python().path)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert runtime_python.find("python399") is None


def test_the_first_on_the_path_that_works_is_taken(tmp_path, monkeypatch):
    program = tmp_path / "python3.99"
    program.write_text("#!/bin/sh\necho 3.99.1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'missing'}:{tmp_path}:/usr/bin:/bin")

    assert runtime_python.find("python399") == runtime_python.Python(program, "3.99.1")
