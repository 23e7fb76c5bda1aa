"""Read-only folders, and the report of changes."""

import os
import stat
from pathlib import Path

import pytest

from deploy.rehearsal.read_only_folder import ReadOnlyFolder

WRITABLE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


@pytest.fixture
def folder(tmp_path: Path):
    """A read-only folder with two files."""
    path = tmp_path / "app"
    (path / "web").mkdir(parents=True)
    (path / "main.py").write_text("main")
    (path / "web" / "views.py").write_text("views")
    read_only = ReadOnlyFolder(path)
    yield read_only
    read_only.release()


def test_no_file_in_it_is_writable(folder):
    assert not any(path.stat().st_mode & WRITABLE for path in [folder.path, *folder.path.rglob("*")])
    assert folder.changes() == []


def test_changes_to_a_read_only_folder_are_named(folder):
    folder.release()  # as if root wrote
    (folder.path / "app.db").write_text("data")
    (folder.path / "cache").mkdir()
    (folder.path / "web" / "views.py").chmod(0o600)
    (folder.path / "web" / "views.py").write_text("VIEWS")
    (folder.path / "main.py").unlink()
    (folder.path / "link").symlink_to("nowhere")
    os.mkfifo(folder.path / "pipe")

    assert folder.changes() == [
        "added app.db",
        "added cache/",
        "added link",
        "removed main.py",
        "added pipe",
        "changed web/views.py",
    ]


def test_a_change_of_modes_alone_is_no_change(folder):
    folder.release()

    assert folder.changes() == []
