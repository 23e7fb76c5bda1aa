"""Signing keys: their text, and for those in Secret Manager when they are read and how a new one becomes known."""

import datetime

import pytest

from gae_deferred import clock, signing, signing_keys
from gae_deferred.errors import ConfigurationError, TransientError
from gae_deferred.signing import Seal
from gae_deferred.signing_keys import LIFETIME, MAX_STALENESS, RENEWAL_INTERVAL, SecretKeys

NAME = "projects/my-project/secrets/deferred-signing-keys"
OLD = "old:an-old-secret-of-thirty-two-chars"
NEW = "new:a-newer-secret-of-32-characters"


class Vault:
    """A Secret Manager with one secret, and a clock."""

    def __init__(self) -> None:
        self.text = OLD
        self.readings = 0
        self.down = False
        self.now = 1000.0

    def read(self, name: str) -> str:
        assert name == NAME
        self.readings += 1
        if self.down:
            raise TransientError("Secret Manager answers 503")
        return self.text


@pytest.fixture
def vault(monkeypatch: pytest.MonkeyPatch) -> Vault:
    vault = Vault()
    monkeypatch.setattr(signing_keys, "_secret_keys", SecretKeys(vault.read, lambda: vault.now))
    monkeypatch.setenv("DEFERRED_SIGNING_KEYS_SECRET", NAME)
    return vault


def test_a_secret_that_is_named_is_read_once(vault: Vault):
    seal = signing.seal("letter", b"b")
    assert str(seal).startswith("old:")
    assert signing.check_seal(seal, "letter", b"b") is Seal.VALID
    assert vault.readings == 1


def test_nothing_is_read_to_know_that_there_are_keys(vault: Vault):
    assert signing_keys.are_set()
    assert vault.readings == 0


def test_keys_in_the_environment_go_before_the_secret(vault: Vault, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEFERRED_SIGNING_KEYS", NEW)
    assert list(signing_keys.current()) == ["new"]
    assert signing_keys.find("old") is None
    assert vault.readings == 0


def test_a_key_that_another_instance_knows_already_is_looked_up(vault: Vault):
    assert signing_keys.find("new") is None
    vault.text, vault.now = f"{NEW},{OLD}", vault.now + RENEWAL_INTERVAL
    assert signing_keys.find("new") == b"a-newer-secret-of-32-characters"
    assert signing_keys.find("old") is not None
    assert list(signing_keys.current()) == ["new", "old"]
    assert vault.readings == 2


def test_invented_key_ids_do_not_keep_secret_manager_busy(vault: Vault):
    for number in range(100):
        assert signing_keys.find(f"invented{number}") is None
        vault.now += RENEWAL_INTERVAL / 1000
    assert vault.readings == 1


def test_while_secret_manager_is_down_the_known_keys_go_on(vault: Vault):
    assert signing_keys.find("old") is not None
    vault.down, vault.now = True, vault.now + RENEWAL_INTERVAL
    assert signing_keys.find("new") is None  # anybody can make up a key id: it is refused, and nothing is raised
    assert signing_keys.find("old") is not None
    assert vault.readings == 2
    assert signing_keys.find("new") is None
    assert vault.readings == 2  # asked again after the interval, not before


def test_a_key_that_is_taken_out_of_the_secret_is_soon_trusted_no_longer(vault: Vault):
    leaked = signing.seal("letter", b"b")
    assert leaked is not None
    vault.text, vault.now = NEW, vault.now + LIFETIME
    assert signing.check_seal(leaked, "letter", b"b") is Seal.UNKNOWN_KEY
    assert str(signing.seal("letter", b"b")).startswith("new:")
    assert vault.readings == 2


def test_a_secret_is_read_again_after_its_lifetime_and_not_before(vault: Vault):
    readings = []
    for seconds in (0, LIFETIME - 1, 1):
        vault.now += seconds
        signing_keys.current()
        readings.append(vault.readings)
    assert readings == [1, 1, 2]


def test_a_secret_that_cannot_be_read_is_asked_for_once_in_an_interval(vault: Vault):
    signing_keys.current()
    vault.down, readings = True, []
    for seconds in (LIFETIME, RENEWAL_INTERVAL - 1, 1):
        vault.now += seconds
        signing_keys.current()
        readings.append(vault.readings)
    assert readings == [2, 2, 3]


@pytest.mark.parametrize(
    ("setting", "is_accepted"),
    [("", False), ("until:2027-01-30", False), ("until:2027-01-31", True), ("until:2027-02-01", True)],
)
def test_something_unsigned_is_accepted_to_the_end_of_the_last_day(
    setting: str, is_accepted: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DEFERRED_ACCEPT_UNSIGNED", setting)
    with clock.held_by(lambda: datetime.datetime(2027, 1, 31, 23, 59, tzinfo=datetime.UTC)):
        assert signing_keys.accept_unsigned() is is_accepted


@pytest.mark.parametrize("damage", ["down", "text"])
def test_keys_that_cannot_be_read_again_go_on_and_are_not_asked_for_at_each_task(
    damage: str, vault: Vault, caplog: pytest.LogCaptureFixture
):
    assert signing_keys.find("old") is not None
    vault.now += LIFETIME
    setattr(vault, damage, damage == "down" or "no keys")
    assert signing_keys.find("old") is not None
    assert list(signing_keys.current()) == ["old"]
    assert vault.readings == 2
    assert f"they stay valid for {MAX_STALENESS - LIFETIME:.0f} s" in caplog.text


def test_keys_that_cannot_be_read_again_are_trusted_for_half_an_hour(vault: Vault):
    assert signing_keys.find("old") is not None
    vault.down, vault.now = True, vault.now + MAX_STALENESS - 1
    assert signing_keys.find("old") is not None
    vault.now += 1
    for ask in (signing_keys.current, lambda: signing_keys.find("old"), lambda: signing_keys.find("invented")):
        with pytest.raises(TransientError, match="not trusted any more"):
            ask()
    vault.down, vault.now = False, vault.now + RENEWAL_INTERVAL
    assert signing_keys.find("old") is not None


def test_a_secret_that_could_not_be_read_is_read_again(vault: Vault):
    vault.down = True
    with pytest.raises(TransientError):
        signing_keys.current()
    vault.down = False
    assert list(signing_keys.current()) == ["old"]


@pytest.mark.parametrize("text", ["", "no-id-in-front-of-this-secret", "id:tooshort"])
def test_a_secret_without_proper_keys_is_an_error_that_names_it(text: str, vault: Vault):
    vault.text = text
    with pytest.raises(ConfigurationError, match=NAME) as caught:
        signing_keys.current()
    assert "in-front" not in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("secret-without-an-id-in-front", "Key 1 .* not id:secret"),
        ("bad id:a-secret-that-is-long-enough", "Key 1 .* not id:secret"),
        (":a-secret-that-is-long-enough", "Key 1 .* not id:secret"),
        ("id:tooshort", "Key 1 .* 8 characters, less than 16"),
        ("id:fifteen-letters", "Key 1 .* 15 characters, less than 16"),
        (f"{NEW},new:another-secret-altogether", "Key 2 .* an earlier key"),
        (" , ", "no key"),
    ],
)
def test_keys_that_cannot_be_read_are_an_error_that_tells_no_secret(
    keys: str, message: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DEFERRED_SIGNING_KEYS", keys)
    for read in (signing_keys.current, lambda: signing_keys.find("id")):
        with pytest.raises(ConfigurationError, match=message) as caught:
            read()
        assert "long-enough" not in str(caught.value)
        assert "tooshort" not in str(caught.value)


def test_a_secret_of_exactly_16_characters_is_long_enough():
    assert signing_keys.parse("id:sixteen-letters-") == {"id": b"sixteen-letters-"}


def test_blanks_around_keys_do_not_count():
    assert signing_keys.parse(f" {NEW} ,\n{OLD},") == signing_keys.parse(f"{NEW},{OLD}")
