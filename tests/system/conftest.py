"""What the tests of the whole service share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.ports import free_port
from tests.support.service import Service, service
from tests.system.test_outbound import CONFIG


@pytest.fixture
async def agent_and_port(tmp_path: Path) -> AsyncIterator[tuple[Service, int]]:
    port = free_port(tcp=True)
    async with service(tmp_path, CONFIG.format(port=port)) as agent:
        yield agent, port
