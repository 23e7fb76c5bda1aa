"""The templates of app.yaml.templates/, and their rendering."""

import math
from pathlib import Path

import jinja2
import yaml

from deploy.errors import TemplateError
from deploy.staging.variables import Variables

FOLDER = Path(__file__).parents[2] / "app.yaml.templates"
"""Folder of the templates. Each has the name of the file that it becomes."""


def render(name: str, variables: Variables, folder: Path = FOLDER) -> str:
    """Return the text of a file.

    Parameters:
        name: name of the template, such as ``app.yaml``.
        variables: values for the template.
        folder: folder of the template.

    Raises:
        TemplateError: the template does not exist, has a syntax error, or uses an unknown variable. The message names
            the file.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 (it is for HTML; the filter yaml quotes)
    )
    environment.filters["yaml"] = quote
    try:
        return environment.get_template(name).render(variables.context())
    except jinja2.TemplateNotFound as error:
        raise TemplateError(f"There is no template {name} in {folder}") from error
    except jinja2.TemplateSyntaxError as error:
        raise TemplateError(f"{folder / name}, line {error.lineno}: {error.message}") from error
    except jinja2.UndefinedError as error:
        raise TemplateError(f"{folder / name}: {error.message}") from error


def quote(text: str) -> str:
    """Return one line of YAML that a parser reads back as exactly this text."""
    plain = yaml.safe_dump(text, width=math.inf).removesuffix("\n").removesuffix("\n...")
    if "\n" not in plain:
        return plain
    return yaml.safe_dump(text, width=math.inf, default_style='"').removesuffix("\n")
