"""A script in the folder of a running ``dev`` uses its local cloud."""

import os
import subprocess
import sys
from pathlib import Path

from .commands import FREE_PORTS, running

APP = """
from gae_deferred import wrap_wsgi_app

def greet(name):
    print("hello", name, flush=True)

app = wrap_wsgi_app(lambda environ, start_response: [], use_deferred=True)
"""

SCRIPT = """
import gae_deferred
from gae_deferred import deferred
from google.cloud import ndb
import main

with gae_deferred.context():
    ndb.transaction(lambda: deferred.defer(main.greet, "Ada", _transactional=True))
"""


def run_script(folder: Path, line: str = "") -> subprocess.CompletedProcess[str]:
    """Run the script in a shell, after another line, without settings in its environment."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    environment = {"PATH": path, "NO_GCE_CHECK": "true", "HOME": str(folder)}
    shell = ["sh", "-ec", f"{line}\nexec {sys.executable} script.py"]
    return subprocess.run(shell, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_script_is_refused_with_the_line_that_makes_it_run(tmp_path: Path):
    (tmp_path / "main.py").write_text(APP)
    (tmp_path / "script.py").write_text(SCRIPT)
    with running("dev", "main:app", "--port", "0", *FREE_PORTS, cwd=tmp_path) as command:
        command.wait_for("Ctrl-C")
        refused = run_script(tmp_path)
        assert refused.returncode != 0
        line = next(line for line in refused.stderr.splitlines() if line.startswith("export "))
        done = run_script(tmp_path, line)
        assert (done.returncode, done.stderr) == (0, "")
        command.wait_for("hello Ada")
