"""The local cloud's commands run on uvloop where it is installed."""

import asyncio
import sys

import pytest
import uvloop

from gae_local_cloud import event_loop


def loop_of_a_command() -> asyncio.AbstractEventLoop:
    found: list[asyncio.AbstractEventLoop] = []

    async def command() -> None:
        found.append(asyncio.get_running_loop())

    event_loop.run(command())
    return found[0]


def test_a_command_runs_on_uvloop():
    assert isinstance(loop_of_a_command(), uvloop.Loop)


def test_without_uvloop_a_command_runs_on_asyncios_event_loop(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "uvloop", None)  # as if it were not installed
    assert type(loop_of_a_command()).__module__.startswith("asyncio.")
