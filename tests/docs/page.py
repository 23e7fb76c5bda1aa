"""One page of the documentation while its blocks run: the app's folder, a shell in it, and a module for its Python."""

import contextlib
import inspect
import linecache
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from gae_deferred.testing import CloudForTests
from tests.docs import console, output, source_file
from tests.docs.shell import Shell, is_server

_COMMAND = re.compile(r"^(?:\$ |(?=\^C$))", re.MULTILINE)


class Page:
    """Runs the blocks of one page in their order.

    Parameters:
        sample: folder of the app that the page has a copy of.
        path: the page's file.
    """

    def __init__(self, sample: Path, path: Path) -> None:
        self._stack = contextlib.ExitStack()
        self._path = path
        temporary = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="page-"))
        self.folder = Path(temporary, sample.name)
        without = shutil.ignore_patterns(".local-cloud", "__pycache__", ".*_cache")
        shutil.copytree(sample, self.folder, ignore=without)
        self._shell: Shell | None = None
        self._module: ModuleType | None = None
        self._cloud: CloudForTests | None = None

    def close(self) -> None:
        """Stop everything that the page has started, and remove its folder."""
        self._stack.close()

    def run(self, language: str, block: str, line: int) -> None:
        """Run a block.

        Raises:
            AssertionError: it does not do what the page says.
        """
        if source_file.write(block, self.folder):
            return
        runners: dict[str, Callable[[str, int], None]] = {
            "console": self._run_console,
            "diff": self._apply,
            "press": self._press,
            "python": self._run_python,
        }
        runners[language](block, line)

    def _apply(self, block: str, line: int) -> None:
        command = ["patch", "--strip=1", "--no-backup-if-mismatch"]
        process = subprocess.run(command, input=block, cwd=self.folder, capture_output=True, text=True, check=False)
        assert process.returncode == 0, f"patch: {process.stdout}{process.stderr}"

    def _run_console(self, block: str, line: int) -> None:
        if self._shell is None:
            self._shell = self._stack.enter_context(Shell(self.folder))
        first, *sessions = _COMMAND.split(block)
        if first.strip():
            self._shell.wait_for(first)
        for number, session in enumerate(sessions):
            command, shown = split(session)
            if is_server(command):
                self._shell.serve(command)
                if shown:
                    self._shell.wait_for(shown)
                continue
            code, text = self._shell.run(command)
            code_is_asked = sessions[number + 1 : number + 2] and sessions[number + 1].startswith("echo $?")
            assert code == 0 or code_is_asked, f"{command} ended with {code}:\n{text}"
            expected = output.pattern(self._shell.with_ports(shown.strip()))
            assert not shown.strip() or expected.fullmatch(text.strip()), f"{command} printed:\n{text}\nnot:\n{shown}"

    def _press(self, block: str, line: int) -> None:
        assert self._shell is not None, "No local cloud runs"
        for label in block.strip().splitlines():
            console.press(self._shell.with_ports("http://127.0.0.1:8124/"), label)

    def _run_python(self, block: str, line: int) -> None:
        """Run a block in the page's module, then the tests that it defines."""
        module = self._module or self._make_module()
        before = dict(vars(module))
        # Where the block is in the page, for tracebacks and for inspect.getsource.
        name = f"{self._path}:{line}"
        linecache.cache[name] = (len(block), None, block.splitlines(keepends=True), name)
        assert self._cloud is not None
        with self._cloud.context():
            exec(compile(block, name, "exec"), vars(module))  # noqa: S102 (the page is ours)
        for test, function in vars(module).items():
            if test.startswith("test_") and before.get(test) is not function:
                self._cloud.reset()
                others = set(inspect.signature(function).parameters) - {"local_cloud"}
                assert not others, f"{test} takes {others}; give the block a file name, and run pytest in a console"
                function(**dict.fromkeys(inspect.signature(function).parameters, self._cloud))

    def _make_module(self) -> ModuleType:
        """Return the module of the page. Its functions can be deferred by their names."""
        self._cloud = self._stack.enter_context(CloudForTests())
        self._stack.enter_context(self._cloud.in_use())
        module = self._module = ModuleType("page")
        others = dict(sys.modules)
        sys.modules["page"] = module
        sys.path.insert(0, str(self.folder))
        self._stack.callback(self._forget_modules, others)
        return module

    def _forget_modules(self, others: dict[str, ModuleType]) -> None:
        """Remove the page's own modules, which other pages have too."""
        sys.path.remove(str(self.folder))
        for name, module in list(sys.modules.items()):
            if name not in others and str(self.folder) in str(getattr(module, "__file__", "")):
                del sys.modules[name]
        del sys.modules["page"]


def split(session: str) -> tuple[str, str]:
    """Return the command and the output of a session, without its first prompt.

    A command goes on in the next line after a backslash, and in lines that begin with ``> ``.
    """
    lines = session.splitlines()
    command = [lines.pop(0)]
    while lines and (command[-1].endswith("\\") or lines[0].startswith("> ")):
        command.append(lines.pop(0).removeprefix("> "))
    return "\n".join(command), "\n".join(lines)
