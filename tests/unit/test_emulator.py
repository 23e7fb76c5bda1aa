"""An address counts as an emulator's if something takes connections there."""

import socket

import pytest

from gae_deferred import emulator


def test_an_address_listens_if_its_socket_does():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert emulator.listens(address) is False
        server.listen()
        assert emulator.listens(address) is True


@pytest.mark.parametrize("address", ["127.0.0.1:99999", "127.0.0.1:port", "[::1"])
def test_a_text_that_is_no_address_does_not_listen(address: str):
    assert emulator.listens(address) is False


def test_the_message_names_the_service_the_address_and_the_variable():
    text = emulator.absence("Cloud Tasks", "127.0.0.1:8123", "CLOUD_TASKS_EMULATOR_HOST")
    assert text.startswith("No Cloud Tasks listens at 127.0.0.1:8123, the address in CLOUD_TASKS_EMULATOR_HOST.")
