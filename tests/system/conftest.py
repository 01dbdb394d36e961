"""What the tests of the whole service share."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.ports import free_port
from tests.support.service import Service, service
from tests.system.test_outbound import CONFIG


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def agent_and_port(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Service, int]]:
    """One service for a module of tests, and the port of its carrier."""
    port = free_port(tcp=True)
    async with service(tmp_path_factory.mktemp("service"), CONFIG.format(port=port)) as agent:
        yield agent, port
