from collections.abc import AsyncIterator

import httpx2
import pytest

from sipagent.http.app import create_app
from tests.http.fake import CONFIG, TOKEN, FakeControl


@pytest.fixture
def control() -> FakeControl:
    return FakeControl()


@pytest.fixture
async def client(control: FakeControl) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=create_app(CONFIG, control, keepalive_seconds=0.02))
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with httpx2.AsyncClient(transport=transport, base_url="http://sipagent", headers=headers) as client:
        yield client
