"""The checks of a project before a deploy: gcloud, the login, the APIs and every resource that the app needs."""

import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from deploy.errors import UsageError
from deploy.gcloud import Command, Gcloud, GcloudError, ask, ask_json
from deploy.infrastructure import Infrastructure

APIS = (
    "appengine.googleapis.com",
    "artifactregistry.googleapis.com",
    "cloudbuild.googleapis.com",
    "cloudtasks.googleapis.com",
    "datastore.googleapis.com",
    "firestore.googleapis.com",
    "iam.googleapis.com",
    "secretmanager.googleapis.com",
)
"""APIs that a deploy and the app call. ``infra/`` enables more, for Terraform."""


@dataclass(frozen=True)
class Preflight:
    """The checks for one service of one project.

    Parameters:
        gcloud: command lines for the project.
        infrastructure: the resources that the project should have.
        service: App Engine service.
        done: called with the text of each check that passed.
    """

    gcloud: Gcloud
    infrastructure: Infrastructure
    service: str
    done: Callable[[str], None]

    def check(self, client_libraries: bool) -> None:
        """Check that a deploy can succeed.

        Parameters:
            client_libraries: whether to check the login of Google's client libraries, too.

        Raises:
            UsageError: it cannot; the message says what to do. It names all missing resources of Terraform at once.
        """
        self._tool()
        self._login(client_libraries)
        self._project()
        self._apis()
        missing = [problem for look in self._infrastructure() for problem in look()]
        if missing:
            apply = f"python3 run.py infra-apply --project {self.gcloud.project}"
            lines = "\n".join(f"- {problem}" for problem in missing)
            raise UsageError(f"Project {self.gcloud.project} is not ready. `{apply}` makes what is missing:\n{lines}")

    def service_is_new(self) -> bool:
        """Return whether the service has no version yet.

        Raises:
            UsageError: gcloud cannot list the services.
        """
        remedy = "App Engine's services cannot be listed: your account needs the role App Engine Viewer."
        return self.service not in self._must(self.gcloud.services(), remedy).split()

    def _tool(self) -> None:
        try:
            version = ask_json(self.gcloud.tool_version()).get("Google Cloud SDK", "of unknown version")
        except GcloudError as error:
            raise UsageError(f"gcloud does not work. {error}") from error
        self.done(f"gcloud {version}")

    def _login(self, client_libraries: bool) -> None:
        log_in = shlex.join(self.gcloud.log_in())
        self._must(self.gcloud.login(), f"gcloud is not logged in, or its login has expired. Run: {log_in}")
        if client_libraries:
            remedy = (
                "Google's client libraries, with which the tests inspect the queue, are not logged in. "
                f"Run: {shlex.join(self.gcloud.log_in_client_libraries())}"
            )
            self._must(self.gcloud.application_default_login(), remedy)
        self.done("credentials")

    def _project(self) -> None:
        remedy = (
            f"There is no project {self.gcloud.project!r}, or your account may not see it. "
            f"`{shlex.join(self.gcloud.list_projects())}` shows those that it may see; "
            f"`{shlex.join(self.gcloud.log_in())}` changes the account."
        )
        self._must(self.gcloud.describe_project(), remedy)
        self.done(f"project {self.gcloud.project}")

    def _apis(self) -> None:
        project = self.gcloud.project
        remedy = f"The APIs of {project} cannot be listed: your account needs the role Service Usage Viewer."
        enabled = self._must(self.gcloud.enabled_apis(), remedy).split()
        missing = [api for api in APIS if api not in enabled]
        if missing:
            raise UsageError(
                f"Project {project} has not enabled {', '.join(missing)}.\n"
                f"Run: python3 run.py infra-apply --project {project}\n"
                f"or:  {shlex.join(self.gcloud.enable_apis(*missing))}"
            )
        self.done("APIs")

    def _infrastructure(self) -> list[Callable[[], Iterator[str]]]:
        return [self._app, self._database, self._queues, self._secret, self._service_account]

    def _app(self) -> Iterator[str]:
        try:
            app = ask_json(self.gcloud.describe_app())
        except GcloudError as error:
            yield f"there is no App Engine application. gcloud says: {error.said.strip()}"
            return
        wanted = self.infrastructure.app_engine_location
        if app.get("locationId") != wanted:
            yield (
                f"the App Engine application is in {app.get('locationId')}, not in {wanted}: "
                "name its region (--location); it can never be moved"
            )
        elif app.get("servingStatus") != "SERVING":
            yield f"the App Engine application is {app.get('servingStatus')}: enable it in the console, under Settings"
        else:
            self.done(f"App Engine application in {wanted}")

    def _database(self) -> Iterator[str]:
        name = self.infrastructure.database
        try:
            database = ask_json(self.gcloud.describe_database(name))
        except GcloudError as error:
            yield f"there is no database {name}. gcloud says: {error.said.strip()}"
            return
        if database.get("type") != "DATASTORE_MODE":
            yield f"the database {name} is in {database.get('type')}, and must be in DATASTORE_MODE"
        else:
            self.done(f"database {name} in Datastore mode")

    def _queues(self) -> Iterator[str]:
        for name in self.infrastructure.queues:
            try:
                queue = ask_json(self.gcloud.describe_queue(name, self.infrastructure.region))
            except GcloudError as error:
                region = self.infrastructure.region
                yield f"there is no queue {name} in {region}. gcloud says: {error.said.strip()}"
                continue
            if queue.get("state") != "RUNNING":
                resume = shlex.join(self.gcloud.resume_queue(name, self.infrastructure.region))
                yield f"the queue {name} is {queue.get('state')}: `{resume}` lets its tasks run"
            else:
                self.done(f"queue {name} in {self.infrastructure.region}")

    def _secret(self) -> Iterator[str]:
        name = self.infrastructure.signing_keys_secret.rpartition("/")[2]
        try:
            state = ask(self.gcloud.secret_state(name)).strip().lower()
        except GcloudError as error:
            yield f"there is no secret {name} with the signing keys. gcloud says: {error.said.strip()}"
            return
        if state == "enabled":
            self.done(f"secret {name}")
        else:
            yield f"the latest version of the secret {name} is {state}, and the app reads no other version: enable it"

    def _service_account(self) -> Iterator[str]:
        email = self.infrastructure.service_accounts.get(self.service)
        if email is None:
            yield f"there is no service account for the service {self.service}: name the service in infra/"
            return
        try:
            ask(self.gcloud.describe_service_account(email))
        except GcloudError as error:
            yield f"there is no service account {email}. gcloud says: {error.said.strip()}"
            return
        self.done(f"service account {email}")

    def _must(self, command: Command, remedy: str) -> str:
        """Return the output of a command. If it fails, raise a UsageError with the remedy."""
        try:
            return ask(command)
        except GcloudError as error:
            raise UsageError(f"{remedy}\ngcloud says: {error.said.strip()}") from error
