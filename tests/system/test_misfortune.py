"""Everything at once, for some seconds; `python -m bench.misfortune --seconds 600` is the long form."""

import pytest

from bench.misfortune import misfortune

pytestmark = [pytest.mark.peers]


async def test_nothing_is_left_behind_when_processes_die_under_calls_of_all_kinds() -> None:
    happened = await misfortune(12.0, seed=8, every_s=1.0)
    assert happened["wrong"] == []
    assert any(what.startswith("kill") for what in happened["happened"])
