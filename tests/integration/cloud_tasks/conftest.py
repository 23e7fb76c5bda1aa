"""Fixtures: a server on the machine's clock, and one on a held clock."""

from collections.abc import AsyncIterator

import pytest

from gae_local_cloud.clock import HeldClock

from .harness import Cloud, cloud


@pytest.fixture
async def live() -> AsyncIterator[Cloud]:
    async with cloud() as running:
        yield running


@pytest.fixture
async def held() -> AsyncIterator[Cloud]:
    async with cloud(HeldClock()) as running:
        yield running
