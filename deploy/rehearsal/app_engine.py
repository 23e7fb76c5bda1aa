"""A version of a service, as App Engine would run it: its host names and its environment variables."""

import secrets
from dataclasses import dataclass

from deploy.rehearsal.instance_settings import InstanceSettings


@dataclass(frozen=True, kw_only=True)
class Version:
    """A version of a service, as it would be on App Engine.

    Attributes:
        settings: settings of its app.yaml.
        project: id of the project.
        name: name of the version.
    """

    settings: InstanceSettings
    project: str
    name: str

    @property
    def host(self) -> str:
        """The host name of the version.

        Apps created since 2020 also have a longer host name, with a region ("How requests are routed").
        """
        return f"{self.name}-dot-{self.settings.service}-dot-{self.default_host}"

    @property
    def default_host(self) -> str:
        """The host name of the default version of the default service."""
        return f"{self.project}.appspot.com"

    def environment(self, port: int) -> dict[str, str]:
        """Return the environment variables of a new instance.

        In rising precedence: ``PYTHONUNBUFFERED``, which Google's buildpack for Python sets
        (GoogleCloudPlatform/buildpacks, cmd/python/runtime); the variables of app.yaml; and those of the documentation
        ("Python runtime environment: environment variables").

        Parameters:
            port: port for the app to listen on.
        """
        return {
            "PYTHONUNBUFFERED": "TRUE",
            **self.settings.environment,
            "GAE_APPLICATION": f"s~{self.project}",
            "GAE_DEPLOYMENT_ID": str(secrets.randbits(60)),
            "GAE_ENV": "standard",
            "GAE_INSTANCE": secrets.token_hex(32),
            "GAE_MEMORY_MB": str(self.settings.memory),
            "GAE_RUNTIME": self.settings.runtime,
            "GAE_SERVICE": self.settings.service,
            "GAE_VERSION": self.name,
            "GOOGLE_CLOUD_PROJECT": self.project,
            "PORT": str(port),
        }
