"""Settings: sources of the project and the location, and errors that say what to set."""

import http.client
from collections.abc import Callable
from typing import Any

import pytest
from app_engine import ON_APP_ENGINE
from deferred_callables import greet

from gae_deferred import deferred, settings
from gae_deferred.errors import ConfigurationError


class FakeMetadataServer:
    """Stands in for connections to the metadata server, and counts them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answer: bytes | Exception, status: int = 200) -> None:
        self.requests: list[tuple[Any, ...]] = []
        fake = self

        class Connection:
            def __init__(self, host: str, timeout: float) -> None:
                self.address = host
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

            def close(self) -> None: ...

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
    FakeMetadataServer(monkeypatch, answer, status)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "p")
    with pytest.raises(ConfigurationError, match="set DEFERRED_LOCATION") as caught:
        settings.location()
    assert named in str(caught.value)
    assert len(str(caught.value)) < 700


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
    with pytest.raises(ConfigurationError, match="set GOOGLE_CLOUD_PROJECT"):
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
