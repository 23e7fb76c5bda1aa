"""The files of a folder that are uploaded, by the rules of .gcloudignore."""

from pathlib import Path

import pytest

from deploy.errors import StagingError
from deploy.staging.ignored import upload


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An app with files of every kind."""
    names = [
        "main.py",
        "test_main.py",
        "__pycache__/main.pyc",
        "web/views.py",
        "web/__pycache__/views.pyc",
        ".git/HEAD",
    ]
    for name in [*names, ".gitignore", "setup.cfg", "web/setup.cfg", "notes/todo.txt"]:
        path = tmp_path / "app" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "app"


def uploaded(folder: Path, ignore: str | None = None) -> set[str]:
    """Upload the folder, and return the names of the uploaded files."""
    if ignore is not None:
        (folder / ".gcloudignore").write_text(ignore)
    target = folder.parent / "workspace"
    names = upload(folder, target)
    arrived = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    assert arrived == set(names)
    return arrived


def test_ignored_files_are_not_uploaded(folder):
    patterns = "# a comment\n\n__pycache__/\n/setup.cfg\ntest_*.py\n.git*\nnotes/\n!notes/todo.txt\n.gcloudignore\n"

    assert uploaded(folder, patterns) == {"main.py", "web/views.py", "web/setup.cfg"}


def test_a_later_line_can_revoke_an_earlier_one(folder):
    assert uploaded(folder, "*\n!main.py\n!.gitignore") == {"main.py", ".gitignore"}


def test_lines_of_another_file_can_be_included(folder):
    (folder / ".gitignore").write_text("web\n#!include:setup.cfg\n")

    names = uploaded(folder, ".git\n#!include:.gitignore\n")

    assert "main.py" in names
    assert not any(name.startswith("web") for name in names)


@pytest.mark.parametrize(("name", "message"), [("missing", "is not in"), ("web/setup.cfg", "of the same folder only")])
def test_a_file_that_cannot_be_included_is_named(folder, name, message):
    with pytest.raises(StagingError, match=f"includes '{name}'.*{message}"):
        uploaded(folder, f"#!include:{name}\n")


def test_without_the_file_the_defaults_of_gcloud_apply(folder):
    assert uploaded(folder) == {"main.py", "test_main.py", "web/views.py", "web/setup.cfg", "notes/todo.txt"}


def test_links_are_uploaded_as_their_targets_and_empty_folders_not_at_all(folder, tmp_path):
    (tmp_path / "elsewhere.py").write_text("elsewhere")
    (folder / "link.py").symlink_to(tmp_path / "elsewhere.py")
    (folder / "empty").mkdir()

    uploaded(folder)

    assert (tmp_path / "workspace" / "link.py").read_text() == "elsewhere"
    assert not (tmp_path / "workspace" / "link.py").is_symlink()
    assert not (tmp_path / "workspace" / "empty").exists()
