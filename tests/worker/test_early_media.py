"""A brain that talks with a caller whom it has not answered, in a real worker."""

from pathlib import Path

import numpy as np
import pytest

from sipagent.service.messages import Answer, Ended, Reject
from tests.support import audio
from tests.worker.process import Line, Parent, offer, worker

pytestmark = pytest.mark.models
BRAINS = "tests.worker.brains"


def loud(line: Line) -> bool:
    return float(np.sqrt(np.mean(line.agent_audio().astype(np.float64) ** 2))) > 100


async def over(parent: Parent, line: Line) -> dict[str, float]:
    """The caller hangs up; what the conversation counted."""
    parent.say(Ended("call-1", "over"))
    usage = (await parent.finished()).usage
    await line.close()
    return usage


async def test_an_announcement_is_heard_to_its_end_before_the_refusal() -> None:
    async with worker() as parent:
        line = await parent.connect(offer(f"{BRAINS}:OutOfService"), answered=False)
        assert await parent.hear(Reject) == Reject("call-1", 404, "Not in service", retry_after_seconds=60)
        assert [event["text"] for event in parent.events("transcript")] == ["This number is not in service."]
        assert loud(line)
        assert "duration_seconds" not in await over(parent, line)


async def test_a_clip_is_heard_before_the_answer_and_one_that_is_missing_is_told(tmp_path: Path) -> None:
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(4000) / 8000)
    clips = [str(tmp_path / "missing.wav"), str(audio.write(tmp_path / "clip.wav", tone))]
    async with worker() as parent:
        options = {"clips": clips}
        line = await parent.connect(offer(f"{BRAINS}:Prompter", brain_options=options), answered=False)
        await parent.hear(Answer)
        assert loud(line)
        (warning,) = parent.events("warning")
        assert "missing.wav" in warning["problem"]
        await over(parent, line)


async def test_a_brain_that_fails_before_the_answer_apologises_and_refuses_the_call() -> None:
    async with worker() as parent:
        line = await parent.connect(offer(f"{BRAINS}:CrashingEarly"), answered=False)
        assert (await parent.hear(Reject)).status == 500
        assert loud(line)
        await over(parent, line)
