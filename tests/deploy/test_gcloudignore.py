"""The rules of .gcloudignore, compared with gcloud's own code where gcloud is installed."""

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest

from deploy.errors import StagingError
from deploy.staging.gcloudignore_pattern import Pattern
from deploy.staging.ignored import Ignored

needs_gcloud = pytest.mark.skipif(not shutil.which("gcloud"), reason="gcloud is not installed: rules not compared")

GCLOUDS_OWN = """
import json, sys

library = sys.argv[1]
sys.path[:0] = [library, library + "/third_party"]
from googlecloudsdk.command_lib.util import gcloudignore

for line in sys.stdin:
    text, folder = json.loads(line)
    chooser = gcloudignore.FileChooser.FromString(text)
    print(json.dumps(sorted(chooser.GetIncludedFiles(folder, include_dirs=False))))
"""

FILES = ["a", "b/a", "b/sub/a", "b/sub/c.py", "deep/sub/a", "deep/b/sub/c", "x y", "#odd", "!odd", "b/a [1]", "sub/a"]
WORDS = [
    "a",
    "b",
    "sub",
    "deep",
    "c.py",
    "*",
    "**",
    "*.py",
    "[ab]",
    "?",
    "s*",
    "x y",
    "x\\ y",
    "\\#odd",
    "\\!odd",
    "\\*",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in FILES:
        path = tmp_path / "app" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "app"


def some_lines(chance: random.Random) -> list[str]:
    """Return random lines, plausible ones and absurd ones."""
    lines = []
    for _ in range(chance.randint(1, 4)):
        path = "/".join(chance.choices(WORDS, k=chance.randint(1, 3)))
        before, after = chance.choice(["", "", "!", "/", "!/", "#"]), chance.choice(["", "", "/", " ", "\\ ", "\\"])
        lines.append(before + path + after)
    return lines


@needs_gcloud
def test_it_selects_the_files_that_gcloud_selects(folder):
    chance = random.Random(6)  # noqa: S311 (the same lines each time)
    cases = [some_lines(chance) for _ in range(3000)]
    root = subprocess.check_output(["gcloud", "info", "--format=value(installation.sdk_root)"], text=True).strip()

    asked = "".join(json.dumps(["\n".join(lines), str(folder)]) + "\n" for lines in cases)
    command = [sys.executable, "-c", GCLOUDS_OWN, f"{root}/lib"]
    said = subprocess.run(command, input=asked, capture_output=True, text=True, check=True, timeout=120).stdout
    theirs = [json.loads(line) for line in said.splitlines()]

    ours = [sorted(Ignored(lines).files(folder)) for lines in cases]
    assert len(theirs) == len(cases)
    assert len({tuple(files) for files in theirs}) > 50  # the lines have an effect
    assert [case for case in zip(cases, theirs, ours, strict=True) if case[1] != case[2]][:3] == []


@pytest.mark.parametrize(
    ("lines", "uploaded"),
    [
        (["*", "!deep"], {"deep/sub/a", "deep/b/sub/c"}),
        (["/*", "!/deep", "sub/a"], {"deep/b/sub/c"}),
        (["*", "!\\*"], set(FILES)),
    ],
    ids=["a star is for the app's folder", "a slash in the middle ties nothing", "a backslash leaves a star a star"],
)
def test_patterns_that_git_reads_otherwise(folder, lines, uploaded):
    assert set(Ignored(lines).files(folder)) == uploaded


@pytest.mark.parametrize("line", ["", "   ", "# a comment", "/", "!", "odd\\"])
def test_comments_and_broken_lines_have_no_pattern(line):
    assert Pattern.of(line) is None


def test_two_stars_match_folders_of_any_depth():
    pattern = Pattern.of("a/**/b")

    assert pattern is not None
    assert all(pattern.matches(PurePosixPath(path), is_folder=False) for path in ("a/b", "a/x/b", "a/x/y/b"))
    assert not pattern.matches(PurePosixPath("x/a/b"), is_folder=False)


def test_an_included_file_includes_no_further_files(folder):
    (folder / ".gcloudignore").write_text("#!include:.gitignore\n")
    (folder / ".gitignore").write_text("#!include:nowhere\nb\n")

    assert Ignored.of(folder, otherwise=[]).lines == ["b"]


@pytest.mark.parametrize(("target", "problem"), [("..", "which it is in itself"), ("nowhere", "leads to nothing")])
def test_a_link_that_cannot_be_followed_is_named(folder, target, problem):
    (folder / "b" / "link").symlink_to(target)

    with pytest.raises(StagingError, match=f"b/link is a link.*{problem}"):
        list(Ignored([]).files(folder))
    assert "b/a" in list(Ignored(["link"]).files(folder))
