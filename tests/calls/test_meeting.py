"""A caller and a colleague who are joined by us, without a network: what each row is told, and the agent."""

from typing import Any

import msgspec
import pytest

from sipagent.calls.call import Call
from sipagent.rtp import control as media
from sipagent.service import messages
from sipagent.service.config.tree import Config
from sipagent.sip import engine as sip
from tests.calls.board import CONFIG, SDP, Board

TARGET = "+4930777"
LATER = SDP.replace(b"30000", b"31000")
MUSIC = msgspec.structs.replace(CONFIG, conversation=msgspec.structs.replace(CONFIG.conversation, hold_music="m.wav"))


class Table(Board):
    """A caller whose transfer a colleague has answered."""

    def __init__(self, config: Config = MUSIC, **wish: Any) -> None:
        super().__init__(config)
        self.call = self.incoming()
        self.says(messages.Transfer(self.call.id, TARGET, "bridged", **wish))
        self.colleague = self.second()
        self.control.on_engine(sip.Answered(self.colleague.handle, LATER))

    def bridges(self) -> list[media.Bridge]:
        return [command for command in self.plane.to(self.call) if isinstance(command, media.Bridge)]

    def bridged(self) -> None:
        """The media plane has carried the last Bridge out."""
        self._event(self.call, media.Bridged)

    def press(self, call: Call, digit: str, by: str = "rtp") -> None:
        self._event(call, media.Digit, digit, 100, 0, by)

    def _event(self, call: Call, kind: Any, *arguments: Any) -> None:
        assert call.place is not None
        self.control.on_media(0, kind(call.place.row, call.place.generation, *arguments))

    def told(self, kind: type) -> list[Any]:
        """What the worker heard, of one kind."""
        return [message for message in self.worker.heard if isinstance(message, kind)]

    def hangs_up(self, call: Call) -> None:
        self.control.on_engine(sip.Ended(call.handle, "remote"))

    def back(self) -> bool:
        """The caller is the agent's again, and the colleague is gone."""
        names = self.plane.names(self.call)
        return self.call.alive and not self.colleague.alive and names[-1] == "Unbridge"


@pytest.fixture
async def whispering() -> Table:
    table = Table(whisper="Mr Miller.", back=True)
    table.bridged()
    return table


@pytest.fixture
async def listened() -> Table:
    table = Table(listen=True, back=True, back_key="*")
    table.bridged()
    return table


async def test_the_colleague_is_told_first_while_the_caller_hears_music(whispering: Table) -> None:
    (bridge,) = whispering.bridges()
    assert (bridge.agent, bridge.apart) == (True, True)
    (told,) = whispering.told(messages.Colleague)
    assert (told.joined, told.whisper) == (False, "Mr Miller.") and told.row == bridge.other_row
    assert whispering.worker.results() == [] and "StopPlay" not in whispering.plane.names(whispering.call)
    whispering.says(messages.Join(whispering.call.id))
    *_, stop, bridge = whispering.plane.to(whispering.call)
    assert isinstance(stop, media.StopPlay) and isinstance(bridge, media.Bridge) and not bridge.apart
    assert whispering.worker.results() == []
    whispering.bridged()
    assert whispering.told(messages.Colleague)[-1].joined and whispering.worker.results() == ["transferred"]


async def test_an_agent_knows_of_the_colleague_only_when_nobody_else_can_hear_it() -> None:
    table = Table(whisper="Mr Miller.")
    assert table.told(messages.Colleague) == []
    table.bridged()
    assert len(table.told(messages.Colleague)) == 1


async def test_an_agent_that_has_told_the_colleague_leaves_when_nothing_else_is_wished() -> None:
    table = Table(whisper="Mr Miller.")
    table.bridged()
    table.says(messages.Join(table.call.id))
    assert table.bridges()[-1] == msgspec.structs.replace(table.bridges()[0], agent=False, apart=False)
    assert len(table.told(messages.Ended)) == 1 and table.worker.results() == ["transferred"]


async def test_an_agent_that_stays_is_woken_by_both_rows(listened: Table) -> None:
    (bridge,) = listened.bridges()
    assert (bridge.agent, bridge.apart) == (True, False)
    (assigned,) = [
        command for command in listened.plane.to(listened.colleague) if isinstance(command, media.AssignWorker)
    ]
    assert assigned.worker == 0
    assert listened.told(messages.Colleague)[0].listen and not listened.told(messages.Ended)
    assert listened.worker.results() == ["transferred"]


async def test_rows_that_are_joined_again_after_their_plane_died_are_no_news(listened: Table) -> None:
    listened.bridged()
    assert len(listened.told(messages.Colleague)) == 1 and listened.worker.results() == ["transferred"]


async def test_an_agent_that_only_waits_hears_nothing_of_the_colleague() -> None:
    table = Table(back=True)
    table.bridged()
    assert not [command for command in table.plane.to(table.colleague) if isinstance(command, media.AssignWorker)]
    assert not table.told(messages.Colleague)[0].listen


async def test_when_the_colleague_hangs_up_the_caller_comes_back(listened: Table) -> None:
    listened.hangs_up(listened.colleague)
    assert listened.back()
    (left,) = listened.told(messages.ColleagueLeft)
    assert left.reason == "the colleague hung up"
    assert not listened.control.transfers.under_way(listened.call)
    assert listened.events(listened.call, "colleague")[-1]["state"] == "left"


async def test_a_colleague_who_hangs_up_ends_the_call_when_the_caller_is_not_to_come_back() -> None:
    table = Table(listen=True)
    table.bridged()
    table.hangs_up(table.colleague)
    assert not table.call.alive and "hangup" in table.engine.names(table.call.handle)


async def test_with_its_key_the_colleague_hands_the_caller_back(listened: Table) -> None:
    listened.press(listened.colleague, "5")
    assert listened.colleague.alive
    listened.press(listened.colleague, "*")
    assert listened.back() and "hangup" in listened.engine.names(listened.colleague.handle)
    assert listened.told(messages.ColleagueLeft)


async def test_the_agent_takes_the_caller_back(listened: Table) -> None:
    listened.says(messages.TakeBack(listened.call.id))
    assert listened.back() and listened.told(messages.ColleagueLeft)
    listened.says(messages.TakeBack(listened.call.id))
    assert len(listened.told(messages.ColleagueLeft)) == 1


async def test_taken_back_before_they_were_joined_the_transfer_was_cancelled(whispering: Table) -> None:
    whispering.says(messages.TakeBack(whispering.call.id))
    assert whispering.back() and whispering.worker.results() == ["cancelled"]
    assert "StopPlay" in whispering.plane.names(whispering.call)


async def test_a_colleague_who_hangs_up_before_they_are_joined_has_not_taken_the_call(whispering: Table) -> None:
    whispering.hangs_up(whispering.colleague)
    assert whispering.back() and whispering.worker.results() == ["failed"]
    heard = [type(message) for message in whispering.worker.heard]
    assert heard.index(messages.ColleagueLeft) < heard.index(messages.TransferResult)


async def test_after_coming_back_the_caller_may_be_transferred_again(listened: Table) -> None:
    listened.hangs_up(listened.colleague)
    listened.says(messages.Transfer(listened.call.id, TARGET, "bridged", back=True))
    assert listened.second() is not listened.colleague
    listened.control.on_engine(sip.Answered(listened.second().handle, LATER))
    listened.bridged()
    assert listened.worker.results() == ["transferred", "transferred"]


@pytest.mark.parametrize("wish", [{"back": True}, {"whisper": "Mr Miller."}, {}])
async def test_a_caller_who_hangs_up_ends_both(wish: dict[str, Any]) -> None:
    table = Table(**wish)
    table.bridged()
    table.hangs_up(table.call)
    assert not table.call.alive and "hangup" in table.engine.names(table.colleague.handle)


async def test_keys_reach_the_other_side_and_a_tone_is_not_sent_twice(listened: Table) -> None:
    listened.press(listened.call, "7")
    listened.press(listened.call, "8", by="inband")
    listened.press(listened.colleague, "9")
    sent = {
        call: [command.digits for command in listened.plane.to(call) if isinstance(command, media.SendDigits)]
        for call in (listened.call, listened.colleague)
    }
    assert sent == {listened.call: ["9"], listened.colleague: ["7"]}


async def test_keys_of_the_caller_are_told_to_an_agent_who_is_with_them_alone() -> None:
    for wish, told in (({"listen": True}, 1), ({}, 0)):
        table = Table(**wish)
        table.bridged()
        table.press(table.call, "7")
        assert len(table.told(messages.DigitPressed)) == told


async def test_an_agent_that_dies_while_they_talk_disturbs_nobody_and_another_takes_the_caller_back(
    listened: Table,
) -> None:
    listened.control.on_worker_lost(0)
    assert listened.call.alive and listened.call.takeovers == 0 and listened.bridges()[-1].agent is False
    assert "Play" not in listened.plane.names(listened.call)[-3:]
    listened.hangs_up(listened.colleague)
    offer = listened.told(messages.Offer)[-1]
    assert offer.resumed and listened.back()
    listened.says(messages.Accept(listened.call.id))
    assert isinstance(listened.worker.heard[-1], messages.Connected)


async def test_an_agent_that_dies_while_it_tells_the_colleague_joins_them(whispering: Table) -> None:
    whispering.control.on_worker_lost(0)
    assert not whispering.bridges()[-1].apart and not whispering.bridges()[-1].agent
    assert whispering.call.alive and whispering.call.takeovers == 0
    whispering.hangs_up(whispering.colleague)
    assert whispering.told(messages.Offer)[-1].resumed


async def test_a_colleague_is_not_kept_waiting_by_an_agent_that_says_nothing(
    whispering: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    timer = whispering.life.live[whispering.call.id].timers["transfer"]
    timer._run()
    assert not whispering.bridges()[-1].apart
    whispering.says(messages.Join(whispering.call.id))
    assert len(whispering.bridges()) == 2


async def test_an_agent_that_has_left_is_called_back_with_what_was_said() -> None:
    table = Table()
    table.says(messages.CallEvent(table.call.id, "transcript", {"role": "user", "text": "A human, please."}))
    table.says(messages.Finished(table.call.id, (), {}, {}))
    assert table.control.transfers.take_back(table.call, "taken back") and table.back()
    offer = table.told(messages.Offer)[-1]
    assert offer.resumed and offer.history[-1]["text"] == "A human, please."
    table.says(messages.Accept(table.call.id))
    assert isinstance(table.worker.heard[-1], messages.Connected)


async def test_a_refused_handover_becomes_a_meeting_too() -> None:
    table = Board(MUSIC)
    call = table.incoming()
    table.says(messages.Transfer(call.id, TARGET, "attended", back=True))
    table.control.on_engine(sip.Answered(table.second().handle, LATER))
    table.control.on_engine(sip.TransferProgress(call.handle, 405, "", True))
    assert [command.agent for command in table.plane.to(call) if isinstance(command, media.Bridge)] == [True]
