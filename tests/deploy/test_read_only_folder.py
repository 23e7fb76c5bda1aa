"""A folder that must not change: what changes nevertheless is named."""

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


def test_nothing_in_it_can_be_written_to(folder):
    assert not any(path.stat().st_mode & WRITABLE for path in [folder.path, *folder.path.rglob("*")])
    assert folder.changes() == []


def test_what_is_written_nevertheless_is_named(folder):
    folder.release()  # as if the system administrator wrote
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


def test_a_change_of_modes_alone_is_none(folder):
    folder.release()

    assert folder.changes() == []
