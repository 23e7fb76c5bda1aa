"""Settings of Sphinx, which builds the site from this folder: `python3 run.py docs`."""

import os
import re
from pathlib import Path

import click
from sphinx.application import Sphinx

from gae_deferred import __version__
from gae_deferred.cli.group import main as command

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

project = "gae-deferred"
author = "the authors of gae-deferred"
version = release = __version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["README.md"]  # of the folder, for those who write pages
nitpicky = True  # a name in a docstring that leads nowhere is a warning
nitpick_ignore_regex = [("py:.*", pattern) for pattern in (r"(?!gae_deferred).*", r"gae_deferred\..*\._.*")]

myst_enable_extensions = ["attrs_block", "attrs_inline", "colon_fence", "deflist"]
myst_heading_anchors = 3

napoleon_google_docstring = True
napoleon_numpy_docstring = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the signature is not longer than the docstring
python_use_unqualified_type_names = True

# sphinx-click reads the commands that the group holds: load those of entry points.
_context = click.Context(command)
for _name in command.list_commands(_context):
    if _found := command.get_command(_context, _name):
        command.add_command(_found, _name)

copybutton_prompt_text = r"\$ "  # a console session is copied without prompts and output
copybutton_prompt_is_regexp = True

html_theme = "furo"
html_title = "gae-deferred"
html_static_path = ["_static"]
html_css_files = ["pictures.css"]
html_copy_source = False
html_show_sourcelink = False

linkcheck_ignore = [r"http://(127\.0\.0\.1|localhost)", r"file://", re.escape("https://console.cloud.google.com/")]
"""Addresses that nobody can ask from outside: the reader's own, and a console behind a login."""

_LINK = re.compile(r"\[([^\[\]]+)\]\((\.\./[^)#\s]+)(#[^)\s]*)?\)")


def _link_out(app: Sphinx, page: str, source: list[str]) -> None:
    """Let links to files outside docs/ lead to the repository: on GitHub if it is built there, else on this disk.

    A link to a missing file stays as it is, so that the build warns of it.
    """
    repository = os.environ.get("GITHUB_REPOSITORY")

    def absolute(link: re.Match[str]) -> str:
        text, target, anchor = link.groups("")
        file = (DOCS / page).parent.joinpath(target).resolve()
        if file.is_relative_to(DOCS) or not file.is_relative_to(ROOT) or not file.exists():
            return link[0]
        if repository:
            return f"[{text}](https://github.com/{repository}/blob/main/{file.relative_to(ROOT).as_posix()}{anchor})"
        return f'<a href="{file.as_uri()}">{text}</a>'  # Markdown takes no file: as the target of a link

    source[0] = _LINK.sub(absolute, source[0])


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _link_out)
