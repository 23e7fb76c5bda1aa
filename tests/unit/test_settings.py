"""Settings: sources of the project and the location, and errors that say what to set."""

import http.client
import re
from collections.abc import Callable
from typing import Any

import pytest
from app_engine import ON_APP_ENGINE
from deferred_callables import greet

from gae_deferred import deferred, running_dev, settings
from gae_deferred.errors import ConfigurationError


class FakeMetadataServer:
    """Stands in for connections to the metadata server, and counts them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answer: bytes | Exception, status: int = 200) -> None:
        self.requests: list[tuple[Any, ...]] = []
        self.open_connections = 0
        fake = self

        class Connection:
            def __init__(self, host: str, timeout: float) -> None:
                self.address = host
                fake.open_connections += 1
                assert 0 < timeout <= 5

            def request(self, method: str, path: str, headers: dict[str, str]) -> None:
                fake.requests.append((self.address, method, path, headers))
                if isinstance(answer, Exception):
                    raise answer

            def getresponse(self) -> Any:
                return self

            def read(self, size: int) -> bytes:
                assert isinstance(answer, bytes)
                return answer[:size]

            def close(self) -> None:
                fake.open_connections -= 1

        Connection.status = status  # type: ignore[attr-defined]
        monkeypatch.setattr(http.client, "HTTPConnection", Connection)


@pytest.mark.parametrize(
    ("environment", "location"),
    [
        ({"DEFERRED_LOCATION": "europe-west3", "LOCATION_ID": "us-east1"}, "europe-west3"),
        ({"LOCATION_ID": "us-east1"}, "us-east1"),
        ({"DEFERRED_LOCATION": "", "LOCATION_ID": "us-east1"}, "us-east1"),
        ({"LOCATION_ID": "us-central"}, "us-central1"),
        ({"LOCATION_ID": "europe-west"}, "europe-west1"),
        ({"LOCATION_ID": "europe-west2"}, "europe-west2"),
        ({"CLOUD_TASKS_EMULATOR_HOST": "localhost:1"}, "us-central1"),
        ({"CLOUD_TASKS_EMULATOR_HOST": "localhost:1", "DEFERRED_LOCATION": "asia-east1"}, "asia-east1"),
    ],
    ids=str,
)
def test_the_location_is_found_in_the_environment(environment, location: str, monkeypatch: pytest.MonkeyPatch):
    metadata = FakeMetadataServer(monkeypatch, OSError("nobody is to ask"))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert settings.location() == location
    assert metadata.requests == []


def test_the_metadata_server_is_asked_for_the_location_once(monkeypatch: pytest.MonkeyPatch):
    metadata = FakeMetadataServer(monkeypatch, b"projects/123/regions/us-central1\n")
    assert settings.location() == settings.location() == "us-central1"
    assert metadata.requests == [
        ("metadata.google.internal", "GET", "/computeMetadata/v1/instance/region", {"Metadata-Flavor": "Google"})
    ]
    assert metadata.open_connections == 0


@pytest.mark.parametrize(
    ("answer", "status", "named"),
    [
        (OSError("no such host"), 200, "no such host"),
        (http.client.BadStatusLine("what"), 200, "what"),
        (b"projects/123/regions/us-east1", 403, "403"),
        (b"", 200, "''"),
        (b"<html>Please log in to this hotel's network</html>", 200, "hotel"),
        (b"projects/123/regions/../../x y", 200, "x y"),
        (b"\xff" * 5000, 200, "answered 200"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_without_a_location_the_error_says_what_to_set(answer, status, named, monkeypatch: pytest.MonkeyPatch):
    metadata = FakeMetadataServer(monkeypatch, answer, status)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "p")
    with pytest.raises(ConfigurationError, match="set DEFERRED_LOCATION") as caught:
        settings.location()
    assert named in str(caught.value)
    assert len(str(caught.value)) < 700
    assert metadata.open_connections == 0


def test_a_location_that_was_not_found_is_looked_for_again(monkeypatch: pytest.MonkeyPatch):
    FakeMetadataServer(monkeypatch, OSError("not yet"))
    with pytest.raises(ConfigurationError):
        settings.location()
    FakeMetadataServer(monkeypatch, b"projects/123/regions/us-east4")
    assert settings.location() == "us-east4"


def test_the_project_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "my-project")
    monkeypatch.setenv("CLOUD_TASKS_EMULATOR_HOST", "localhost:1")
    assert settings.project() == "my-project"


@pytest.mark.parametrize("emulator", ["CLOUD_TASKS_EMULATOR_HOST", "DATASTORE_EMULATOR_HOST"])
def test_the_local_cloud_has_a_project_of_its_own(emulator: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(emulator, "localhost:1")
    assert settings.project() == "local-dev"


def test_without_a_project_the_error_says_what_to_set_and_nothing_is_enqueued(queue, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT")
    monkeypatch.setattr(running_dev, "hint", lambda: ". It runs in this folder")
    with pytest.raises(ConfigurationError, match=r"set GOOGLE_CLOUD_PROJECT .*\. It runs in this folder"):
        deferred.defer(greet, "Ada")
    assert queue.created == []


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ({}, True),
        ({"GAE_ENV": "localdev"}, False),
        ({"GAE_ENV": "Standard"}, False),
        ({"GAE_ENV": ""}, False),
        ({"GAE_APPLICATION": ""}, False),
        ({"GAE_INSTANCE": ""}, False),
        ({"K_SERVICE": "web"}, False),
    ],
    ids=str,
)
def test_app_engine_sets_more_than_one_variable(changes: dict[str, str], answer: bool, monkeypatch: pytest.MonkeyPatch):
    for name, value in (ON_APP_ENGINE | changes).items():
        monkeypatch.setenv(name, value)
    assert settings.on_app_engine() is answer


@pytest.mark.parametrize(
    ("variable", "setting"),
    [
        ("GAE_SERVICE", settings.service),
        ("GAE_VERSION", settings.version),
        ("CLOUD_TASKS_EMULATOR_HOST", settings.cloud_tasks_emulator),
        ("DATASTORE_EMULATOR_HOST", settings.datastore_emulator),
        ("DEFERRED_SERVICE_ACCOUNT", settings.service_account),
        ("DEFERRED_AUDIENCE", settings.oidc_audience),
    ],
)
def test_a_variable_without_a_value_counts_as_not_set(
    variable: str, setting: Callable[[], str | None], monkeypatch: pytest.MonkeyPatch
):
    assert setting() is None
    for value, expected in (("a-value", "a-value"), ("", None)):
        monkeypatch.setenv(variable, value)
        settings.forget()
        assert setting() == expected


@pytest.mark.parametrize(
    ("text", "databases"),
    [("", ("",)), (" , ", ("",)), ("other", ("other",)), ("(default)", ("",)), ("other, (default),", ("other", ""))],
)
def test_databases_are_a_list_in_which_the_default_one_has_a_name(
    text: str, databases: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DEFERRED_DATABASE", text)
    assert settings.databases() == databases


TASKS, DATA = {"CLOUD_TASKS_EMULATOR_HOST": "localhost:1"}, {"DATASTORE_EMULATOR_HOST": "localhost:2"}


@pytest.mark.parametrize(
    ("variable", "setting", "local_clouds"),
    [
        ("LOCAL_CLOUD_CLOCK", settings.local_clock, [TASKS, DATA, TASKS | DATA]),
        ("DEFERRED_OIDC_ISSUER", settings.oidc_issuer, [TASKS, TASKS | DATA]),
    ],
)
def test_settings_of_the_local_cloud_count_only_there(
    variable: str,
    setting: Callable[[], str | None],
    local_clouds: list[dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
):
    for environment in ({}, TASKS, DATA, TASKS | DATA):
        for value in ("a-value", ""):
            with monkeypatch.context() as patch:
                for name, text in (environment | {variable: value}).items():
                    patch.setenv(name, text)
                settings.forget()
                assert setting() == (value or None if environment in local_clouds else None)


@pytest.mark.parametrize(
    ("environment", "answer"),
    [
        ({}, True),
        ({"DEFERRED_REPLAY_RECEIPTS": "off"}, False),
        (ON_APP_ENGINE, False),
        (TASKS, False),
        (DATA, True),
    ],
    ids=str,
)
def test_receipts_are_kept_where_strangers_can_send_a_task_again(
    environment: dict[str, str], answer: bool, monkeypatch: pytest.MonkeyPatch
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert settings.keeps_receipts() is answer


@pytest.mark.parametrize(
    ("environment", "service", "url"),
    [
        ({}, "p/service/default", None),
        ({"GAE_SERVICE": "web"}, "p/service/web", None),
        ({"GAE_SERVICE": "web"} | TASKS, "p/local", None),
        ({"DEFERRED_TARGET_URL": "https://app.example/"}, "p/service/default", "p/url/https://app.example"),
        (
            {"DEFERRED_TARGET_URL": "https://app.example", "DEFERRED_AUDIENCE": "mine"},
            "p/service/default",
            "p/url/mine",
        ),
    ],
    ids=str,
)
def test_the_name_of_a_receiver_is_that_of_its_project_and_its_service_or_url(
    environment: dict[str, str], service: str, url: str | None, monkeypatch: pytest.MonkeyPatch
):
    for name, value in {"GOOGLE_CLOUD_PROJECT": "p", **environment}.items():
        monkeypatch.setenv(name, value)
    assert settings.own_service_audience() == service
    assert settings.own_url_audience() == url


@pytest.mark.parametrize(
    "url", ["app.example", "ftp://app.example", "https://", "https://a/?b=c", "https://a/#b", "https://[::1"]
)
def test_a_target_that_is_no_url_of_a_server_is_an_error(url: str, queue, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEFERRED_TARGET_URL", url)
    with pytest.raises(ConfigurationError, match=f"DEFERRED_TARGET_URL is '{re.escape(url)}'"):
        deferred.defer(greet, "Ada")
    assert queue.created == []


def signing_keys_secret() -> str | None:
    return settings.signing_keys_or_secret()[1]


@pytest.mark.parametrize(
    ("name", "value", "setting"),
    [
        ("DEFERRED_SIGNING_KEYS", "id:a-secret-of-at-least-16-characters", settings.signing_keys),
        ("DEFERRED_SIGNING_KEYS_SECRET", "projects/p/secrets/keys", signing_keys_secret),
        ("DEFERRED_USE_CROSS_COMPATIBLE_PICKLE_PROTOCOL", "1", settings.cross_compatible_pickle),
    ],
)
def test_settings_of_each_task_are_read_once_until_a_test_forgets_them(
    name: str, value: str, setting: Callable[[], object], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(name, value)
    answer = setting()
    assert answer
    monkeypatch.delenv(name)
    assert setting() == answer
    settings.forget()
    assert not setting()


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("DEFERRED_SIGNING_KEYS", settings.signing_keys),
        ("DEFERRED_SIGNING_KEYS_SECRET", signing_keys_secret),
    ],
)
def test_the_absence_of_keys_is_not_remembered(
    name: str, setting: Callable[[], object], monkeypatch: pytest.MonkeyPatch
):
    assert not setting()
    monkeypatch.setenv(name, "projects/p/secrets/keys")
    assert setting() == "projects/p/secrets/keys"


def test_a_switch_takes_on_or_off(monkeypatch: pytest.MonkeyPatch):
    variable = "DEFERRED_GENERATED_NAMES"
    for value, expected in ((None, True), ("", True), ("on", True), ("off", False)):
        if value is not None:
            monkeypatch.setenv(variable, value)
        settings.forget()
        assert settings.generates_names() is expected
    monkeypatch.setenv(variable, "no")
    settings.forget()
    with pytest.raises(ConfigurationError, match=f"{variable} is 'no'; it takes on or off"):
        settings.generates_names()


@pytest.mark.parametrize("value", ["0", "1e6", "-5", "32767", "1_000_000", "many"])
def test_the_size_of_a_task_is_lowered_by_a_number_only(value: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEFERRED_MAX_TASK_BYTES", value)
    with pytest.raises(ConfigurationError, match=f"DEFERRED_MAX_TASK_BYTES is '{value}'; .* at least 32768"):
        settings.max_task_bytes()


def test_the_size_of_a_task_is_lowered_to_the_least(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEFERRED_MAX_TASK_BYTES", "32768")
    assert settings.max_task_bytes() == 32768
