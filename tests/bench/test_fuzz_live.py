"""The short form of `bench.fuzz_live`, and that it would notice."""

from pathlib import Path

import pytest

from bench import fuzz_live
from tests.support.service import service


async def test_damaged_messages_leave_a_running_service_in_order(tmp_path: Path) -> None:
    async with service(tmp_path, fuzz_live.CONFIG.format(calls=60), ports=240) as agent:
        found = await fuzz_live.fuzz(agent, messages=1500, seed=1, settle=False)
        assert found["problem"] == ""
        assert found["messages"] == 1500
        agent.process.kill()  # nobody answers any more: the storm must say so
        await agent.process.wait()
        dead = fuzz_live.FarEnd(("127.0.0.1", agent.sip_port))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fuzz_live, "PATIENCE_S", 0.1)
            assert not await dead.is_answered()
        dead.close()
