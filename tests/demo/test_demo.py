"""`sipagent demo --json`: two whole calls with a caller that we did not write."""

import asyncio
import json
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import soundfile

from tests.support.service import ROOT

SVG = "{http://www.w3.org/2000/svg}"
pytestmark = [pytest.mark.peers, pytest.mark.models]


async def test_the_demo_talks_is_interrupted_takes_a_key_and_phones_back(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra [demo] is not installed")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sipagent", "demo", "--json", "--output", str(tmp_path / "out"),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await asyncio.wait_for(process.communicate(), 200)
    assert process.returncode == 0, errors.decode()[-3000:]
    result = json.loads(output)
    assert result["registered"]
    booking, reminder = result["calls"]
    assert booking["barge_ins"] >= 1 and booking["dtmf"] == "1" and booking["outcome"] == "answered"
    spoken = " ".join(turn["agent"] for turn in booking["turns"])
    assert "Peter Miller" in spoken and "Your appointment is booked." in spoken
    assert all(turn["response_ms"] > 0 for turn in booking["turns"] if turn["caller"])
    assert reminder["direction"] == "outbound" and reminder["outcome"] == "answered"
    assert "yes" in reminder["turns"][-1]["caller"].lower()
    for call in result["calls"]:
        recording = soundfile.info(call["recording"])
        assert recording.channels == 2 and recording.duration > 8
        assert Path(call["recording"]).with_suffix(".png").stat().st_size > 10_000
        drawing = ElementTree.parse(call["ladder"]).getroot()
        assert {"INVITE", "200", "ACK", "BYE"} <= {
            (text.text or "").split(" ")[0] for text in drawing.iter(f"{SVG}text")
        }
        assert Path(call["packets"]).stat().st_size > 100_000
        words = Path(call["recording"]).with_suffix(".txt").read_text()
        assert Path(call["ladder"]).name in words and Path(call["packets"]).name in words
