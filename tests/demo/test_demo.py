"""`sipagent demo --json`: two whole calls with a caller that we did not write."""

import asyncio
import json
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import soundfile

from sipagent.demo import main
from sipagent.demo.report import CallReport
from sipagent.errors import ConfigError
from tests.support.service import ROOT

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.peers
@pytest.mark.models
async def test_the_demo_talks_is_interrupted_takes_a_key_and_phones_back(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra [demo] is not installed")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sipagent", "demo", "--json", "--output", str(tmp_path / "out"),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await asyncio.wait_for(process.communicate(), 200)
    assert process.returncode == 0, errors.decode()[-3000:]
    result = json.loads(output)
    assert result.keys() == {"registered", "calls"} and result["registered"] is True
    booking, reminder = result["calls"]
    for call in result["calls"]:
        assert call.keys() == {"turns", "barge_ins", "dtmf", "recording", "outcome"}
        assert all(turn.keys() == {"caller", "agent", "response_ms"} for turn in call["turns"])
    assert booking["barge_ins"] >= 1 and booking["dtmf"] == "1" and booking["outcome"] == "answered"
    spoken = " ".join(turn["agent"] for turn in booking["turns"])
    assert "Peter Miller" in spoken and "Your appointment is booked." in spoken
    assert all(turn["response_ms"] > 0 for turn in booking["turns"] if turn["caller"])
    assert reminder["outcome"] == "answered"
    assert "yes" in reminder["turns"][-1]["caller"].lower()
    for call in result["calls"]:
        recording = Path(call["recording"])
        about = soundfile.info(recording)
        assert about.channels == 2 and about.duration > 8
        assert recording.with_suffix(".png").stat().st_size > 10_000
        ladder, packets = recording.with_name(f"{recording.stem}-sip.svg"), recording.with_suffix(".pcapng")
        drawing = ElementTree.parse(ladder).getroot()
        assert {"INVITE", "200", "ACK", "BYE"} <= {
            (text.text or "").split(" ")[0] for text in drawing.iter(f"{SVG}text")
        }
        assert packets.stat().st_size > 100_000
        words = recording.with_suffix(".txt").read_text()
        assert ladder.name in words and packets.name in words


def test_a_pause_lasts_from_what_the_caller_said_to_the_first_sound_of_the_answer() -> None:
    told = CallReport("1", "inbound")
    told.events = [
        {"type": "transcript", "role": "assistant", "text": "Hello.", "at_ms": 100},
        {"type": "transcript", "role": "user", "text": "Hi.", "at_ms": 2000},
        {"type": "turn", "response_ms": 700.0},
        {"type": "transcript", "role": "assistant", "text": "How are you?", "at_ms": 3500},
        {"type": "transcript", "role": "assistant", "text": "And the dog?", "at_ms": 5000},
    ]
    assert told.pauses() == [(pytest.approx(2.8), 3.5)]


def test_a_folder_that_no_demo_has_made_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(ConfigError, match="no folder of an earlier demo"):
        main.run(as_json=True, wait_for_softphone=True, output=tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "all of it"


def test_a_package_that_is_missing_is_named_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "pjsua2" else object())
    with pytest.raises(ConfigError, match=r"pjsua2 is missing .*sipagent\[demo\]"):
        main.run(as_json=True, wait_for_softphone=False, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()
