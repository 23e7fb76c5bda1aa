"""What a staged app is."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Staged:
    """An app that is ready for `gcloud app deploy`.

    Attributes:
        folder: where it is.
        files: what is uploaded, as sorted paths relative to the folder.
        requirements: text of its requirements.txt: every package in one version, and the library as a wheel.
        settings: what its app.yaml says.
    """

    folder: Path
    files: tuple[str, ...]
    requirements: str
    settings: dict[str, object]

    @property
    def entrypoint(self) -> str:
        """The command that serves the app."""
        return str(self.settings["entrypoint"])
