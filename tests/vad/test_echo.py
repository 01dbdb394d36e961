import numpy as np
import pytest

from sipagent.rtp.vad import echo_delay, echo_fit
from sipagent.rtp.vad.echo_delay import EARLY, LATE, SEGMENT
from sipagent.rtp.vad.echo_filter import BLOCK, REACH, EchoFilter
from sipagent.rtp.vad.options import EarsOptions
from tests.vad import echo_trials, speech
from tests.vad.echo_paths import EchoPath, received, through_g711
from tests.vad.line import Line
from tests.vad.speech import needs_recordings

KINDS = (("hybrid", 6), ("hybrid", 20), ("speakerphone", 6), ("speakerphone", 20))


@needs_recordings
@pytest.mark.parametrize(("kind", "return_loss_db"), KINDS)
def test_the_agents_own_words_coming_back_are_not_the_caller(kind: str, return_loss_db: float) -> None:
    assert echo_trials.run(kind, return_loss_db, 12).false_alarms == 0


@needs_recordings
def test_without_the_gate_nearly_every_call_interrupts_itself() -> None:
    """The wiring: what the test above passes by is the gate."""
    outcome = echo_trials.run("hybrid", 6, 20, options=EarsOptions(echo=False))
    assert outcome.false_alarms > 15


@needs_recordings
@pytest.mark.parametrize(("kind", "return_loss_db"), KINDS)
def test_a_caller_who_talks_over_the_agent_is_heard_through_the_echo(kind: str, return_loss_db: float) -> None:
    outcome = echo_trials.run(kind, return_loss_db, 12, caller_at_s=2.5, caller_db=-6)
    assert outcome.heard >= 11
    assert outcome.false_alarms <= 1


@needs_recordings
def test_on_a_line_without_echo_the_gate_costs_a_caller_no_more_than_its_hold() -> None:
    gated = echo_trials.run("none", 0, 20, caller_at_s=1.0)
    free = echo_trials.run("none", 0, 20, caller_at_s=1.0, options=EarsOptions(echo=False))
    assert gated.heard == free.heard == 20
    assert max(np.array(gated.delays_ms) - free.delays_ms) <= 9 * 32
    assert np.median(np.array(gated.delays_ms) - free.delays_ms) <= 32


@needs_recordings
def test_echo_is_gated_on_wideband_rows_too() -> None:
    assert echo_trials.run("hybrid", 12, 10, rate_hz=16000).false_alarms == 0
    assert echo_trials.run("hybrid", 12, 10, rate_hz=16000, caller_at_s=2.5).heard == 10


@needs_recordings
def test_an_echo_whose_delay_jumps_is_found_again() -> None:
    agent = np.stack([through_g711(speech.talk(10, seed)) for seed in range(8)])
    before = np.stack([received(pcm, EchoPath("hybrid", 120, 10, seed)) for seed, pcm in enumerate(agent)])
    after = np.stack([received(pcm, EchoPath("hybrid", 180, 10, seed)) for seed, pcm in enumerate(agent)])
    heard = np.concatenate([before[:, :40000], after[:, 40000:]], axis=1)
    line = Line(len(agent))
    line.hear_all(heard, agent)
    late = [at for told in line.told for at, speaking in told if speaking and at > 40000 + 12000]
    early = [at for told in line.told for at, speaking in told if speaking and at < 40000]
    assert early == []
    assert late == []


def onsets_s(line: Line) -> list[list[float]]:
    """Seconds at which onsets were told, of each row."""
    return [[at / speech.RATE_HZ for at, speaking in told if speaking] for told in line.told]


@needs_recordings
@pytest.mark.parametrize(("kind", "return_loss_db"), KINDS)
def test_a_far_end_that_was_muted_does_not_make_the_agent_interrupt_itself(kind: str, return_loss_db: float) -> None:
    agent = np.stack([through_g711(speech.talk(12, seed)) for seed in range(12)])
    heard = np.stack([received(pcm, EchoPath(kind, 60 + 20 * n, return_loss_db, n)) for n, pcm in enumerate(agent)])
    heard[:, 40000:64000] = 0
    line = Line(len(agent))
    line.hear_all(heard, agent)
    assert onsets_s(line) == [[]] * len(agent)


@needs_recordings
@pytest.mark.parametrize(("kind", "return_loss_db"), KINDS)
def test_an_echo_that_comes_late_in_the_call_interrupts_the_agent_once_at_most(
    kind: str, return_loss_db: float
) -> None:
    """A handset is laid down, or its mute key pressed after the greeting: nobody could know before."""
    agent = np.stack([through_g711(speech.talk(14, seed)) for seed in range(12)])
    heard = np.stack([received(pcm, EchoPath(kind, 60 + 20 * n, return_loss_db, n)) for n, pcm in enumerate(agent)])
    heard[:, :32000] = 0
    line = Line(len(agent))
    line.hear_all(heard, agent)
    assert max(len(each) for each in onsets_s(line)) <= 1


@needs_recordings
@pytest.mark.parametrize(("kind", "return_loss_db"), KINDS)
def test_a_caller_is_heard_on_a_line_whose_echo_has_gone(kind: str, return_loss_db: float) -> None:
    agent = np.stack([through_g711(speech.talk(10, seed)) for seed in range(12)])
    voices = np.stack([speech.talk(3, 5000 + seed) // 2 for seed in range(12)])
    heard = np.stack([received(pcm, EchoPath(kind, 60 + 20 * n, return_loss_db, n)) for n, pcm in enumerate(agent)])
    heard[:, 32000:] = received(np.zeros(1, np.int16).repeat(48000), EchoPath("none", 0, 0))
    heard[:, 56000:] = through_g711(voices)
    line = Line(len(agent))
    line.hear_all(heard, agent)
    assert sum(len(each) > 0 and 7 <= each[0] < 8 for each in onsets_s(line)) >= 11


@needs_recordings
@pytest.mark.parametrize("ahead_s", [-0.8, 0.8])
def test_clocks_that_did_not_start_together_do_not_hide_an_echo(ahead_s: float) -> None:
    agent = np.stack([through_g711(np.concatenate([speech.silence(1), speech.talk(4, seed)])) for seed in range(6)])
    heard = np.stack([received(pcm, EchoPath("hybrid", 250, 10, seed)) for seed, pcm in enumerate(agent)])
    line = Line(len(agent))
    clock = line.table.tx_clock if ahead_s > 0 else line.table.rx_head
    clock[:] = int(abs(ahead_s) * speech.RATE_HZ)
    line.hear_all(heard, agent)
    assert line.events == [[]] * len(agent)
    assert ((line.table.echo_delay_samples > 1900) & (line.table.echo_delay_samples < 2600)).all()


@needs_recordings
def test_delay_and_coupling_of_the_echo_are_told_in_the_table() -> None:
    agent = through_g711(speech.talk(4, 1))
    line = Line(1)
    line.hear_all(received(agent, EchoPath("hybrid", 100, 10))[None], agent[None])
    assert 800 <= line.table.echo_delay_samples[0] <= 900  # the strongest tap lies a little behind the first
    assert -12 < 20 * np.log10(line.table.echo_coupling[0]) < -8
    line.open(0, generation=2)
    assert line.table.echo_coupling[0] == 0


def test_the_lag_of_an_echo_is_found() -> None:
    rng = np.random.default_rng(2)
    sent = rng.normal(0, 1000, (4, SEGMENT + LATE + EARLY)).astype(np.float32)
    lags = np.array([-200, 0, 160, 2400])
    heard = np.stack([row[LATE - lag : LATE - lag + SEGMENT] for row, lag in zip(sent, lags, strict=True)])
    lag, score = echo_delay.find(heard * np.float32(0.2), sent)
    assert lag.tolist() == lags.tolist()
    assert (score > 20).all()
    other = rng.normal(0, 1000, (4, SEGMENT)).astype(np.float32)
    assert (echo_delay.find(other, sent)[1] < 6).all()


def test_a_path_is_fitted_exactly_where_there_is_nothing_but_echo() -> None:
    rng = np.random.default_rng(2)
    sent = rng.normal(0, 1000, (2, SEGMENT + echo_fit.TAPS - 1)).astype(np.float32)
    path = (rng.normal(0, 1, (2, echo_fit.TAPS)) * 0.9 ** np.arange(echo_fit.TAPS)).astype(np.float32)
    heard = np.stack([np.convolve(s, h, "valid") for s, h in zip(sent, path, strict=True)]).astype(np.float32)
    fitted, residual = echo_fit.fit(heard, sent)
    np.testing.assert_allclose(fitted, path, atol=0.02)
    assert (residual**2).sum() < 1e-3 * (heard**2).sum()


def test_the_filter_learns_a_path_that_it_was_not_given_and_rows_do_not_mix() -> None:
    rng = np.random.default_rng(2)
    blocks = 120
    sent = rng.normal(0, 3000, (3, REACH + blocks * BLOCK)).astype(np.float32)
    path = rng.normal(0, 0.05, (3, 500)) * 0.99 ** np.arange(500)
    heard = np.stack([np.convolve(s, h)[: len(s)] for s, h in zip(sent, path, strict=True)]).astype(np.float32)
    together, alone = EchoFilter(3), EchoFilter(3)
    everyone = np.arange(3)
    together.start(everyone, np.zeros((3, 1), np.float32))
    alone.start(everyone, np.zeros((3, 1), np.float32))
    for block in range(blocks):
        at = REACH + block * BLOCK
        window, reference = heard[:, at : at + BLOCK], sent[:, at - REACH : at + BLOCK]
        echo = together.cancel(everyone, window, np.ascontiguousarray(reference))
        single = alone.cancel(everyone[1:2], window[1:2], np.ascontiguousarray(reference[1:2]))
        np.testing.assert_allclose(single[0], echo[1], rtol=1e-3, atol=0.5)
    left = ((window - echo) ** 2).sum(axis=1) / (window**2).sum(axis=1)
    assert (left < 0.03).all()
