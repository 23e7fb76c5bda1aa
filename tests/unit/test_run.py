"""run.py, with which people run the project's jobs."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import run

ROOT = Path(run.__file__).parent
FOLDERS = (".", "bench", "deploy", "docs", "docs/how-to", "infra", "lib", "lib/dropin", "samples/*")
PAGES = [page for folder in FOLDERS for page in sorted(ROOT.glob(f"{folder}/*.md"))]


def test_it_knows_each_session_of_the_noxfile():
    sessions = []
    for node in ast.parse((ROOT / "noxfile.py").read_text()).body:
        for decorator in getattr(node, "decorator_list", []):
            if ast.unparse(decorator).startswith("nox.session"):
                keywords = {keyword.arg: keyword.value for keyword in getattr(decorator, "keywords", [])}
                sessions.append(ast.literal_eval(keywords["name"]) if "name" in keywords else node.name)
    assert sessions
    assert run.jobs() == sessions


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_names_jobs_that_there_are(page: Path):
    assert set(re.findall(r'\brun\.py"? ([a-z][\w-]*)', page.read_text())) <= set(run.jobs())


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("dev-flsk", " Did you mean dev-flask?"),
        ("wsgi", " Did you mean dev-wsgi or rehearse-wsgi or deploy-wsgi or e2e-wsgi?"),
        ("zzz", ""),
    ],
)
def test_a_typo_is_told_at_once_with_the_job_that_was_meant(typed: str, meant: str, tmp_path: Path):
    for name in ("run.py", "noxfile.py"):
        shutil.copy(ROOT / name, tmp_path)
    done = subprocess.run(
        [sys.executable, "run.py", typed, "--port", "0"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == f"There is no job {typed!r}.{meant} `python3 run.py` lists the jobs.\n"
    assert not (tmp_path / ".venv-nox").exists()
