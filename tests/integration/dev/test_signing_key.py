"""The signing key that gae-deferred contributes to the local cloud."""

import re
import stat
from pathlib import Path

import pytest

from gae_deferred.cli.local_environment import FILE_NAME, signing_key


def test_a_data_folder_keeps_its_key(tmp_path: Path):
    assert signing_key(tmp_path) == signing_key(tmp_path)


def test_each_data_folder_and_each_run_in_memory_has_its_own(tmp_path: Path):
    (tmp_path / "a").mkdir()
    assert len({signing_key(tmp_path), signing_key(tmp_path / "a"), signing_key(None), signing_key(None)}) == 4


def test_only_its_owner_can_read_the_key(tmp_path: Path):
    signing_key(tmp_path)
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600


def test_a_half_written_file_of_a_killed_process_is_not_used_as_a_key(tmp_path: Path):
    (tmp_path / FILE_NAME).with_suffix(".new").write_text("local:abc")
    assert len(signing_key(tmp_path)) > 32


def test_only_its_owner_can_read_a_half_written_file_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        signing_key(tmp_path)
    (file,) = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_key_that_others_could_read_is_closed_to_them(tmp_path: Path):
    signing_key(tmp_path)
    (tmp_path / FILE_NAME).chmod(0o644)
    signing_key(tmp_path)
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["", "\n", "local:short", "no colon, no key"])
def test_a_file_without_a_key_is_an_error_that_names_it_and_the_way_out(tmp_path: Path, text: str):
    path = tmp_path / FILE_NAME
    path.write_text(text)
    with pytest.raises(OSError, match=f"{re.escape(str(path))}.*Delete the file"):
        signing_key(tmp_path)
    path.unlink()
    assert signing_key(tmp_path)
