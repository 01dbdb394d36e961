"""The streaming resampler against its own block length, against ideal sines and against soxr."""

import numpy as np
import pytest

from sipagent.codecs.resample import Resampler, resample

ROWS = np.arange(3)


def sine(hz: float, rate_hz: int, samples: int, amplitude: float = 10000) -> np.ndarray:
    return np.rint(amplitude * np.sin(2 * np.pi * hz * np.arange(samples) / rate_hz)).astype(np.int16)


@pytest.mark.parametrize(("from_hz", "to_hz"), [(8000, 16000), (16000, 8000)])
def test_the_packet_size_does_not_change_a_sample(from_hz: int, to_hz: int) -> None:
    pcm = np.random.default_rng(5).integers(-9000, 9000, (3, 4800)).astype(np.int16)
    whole = Resampler(3, from_hz, to_hz).process(ROWS, pcm)
    assert whole.shape == (3, 4800 * to_hz // from_hz)
    for size in (80, 160, 240, 50):
        stream = Resampler(3, from_hz, to_hz)
        parts = [stream.process(ROWS, pcm[:, at : at + size]) for at in range(0, 4800, size)]
        # BLAS may add in another order: a half may then round the other way.
        np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, atol=1)


@pytest.mark.parametrize(("from_hz", "to_hz"), [(8000, 16000), (16000, 8000)])
@pytest.mark.parametrize("hz", [200, 1000, 2500, 3300])
def test_a_tone_in_the_voice_band_comes_out_as_itself_one_and_a_half_ms_later(
    from_hz: int, to_hz: int, hz: int
) -> None:
    stream = Resampler(1, from_hz, to_hz)
    out = stream.process(np.array([0]), sine(hz, from_hz, from_hz // 2)[None])[0]
    ideal = 10000 * np.sin(2 * np.pi * hz * (np.arange(len(out)) / to_hz - stream.delay_s))
    error = (out - ideal)[200:]
    assert stream.delay_s < 0.0016
    assert 20 * np.log10(np.sqrt(np.mean(error**2)) / 7071) < (-40 if hz < 3000 else -22)


def test_what_the_lower_rate_cannot_hold_is_gone() -> None:
    out = Resampler(1, 16000, 8000).process(np.array([0]), sine(5000, 16000, 8000)[None])[0]
    assert np.abs(out[100:]).max() < 10


def test_rows_keep_their_own_history() -> None:
    pcm = np.random.default_rng(6).integers(-9000, 9000, (3, 320)).astype(np.int16)
    alone = [Resampler(1, 8000, 16000).process(np.array([0]), pcm[row : row + 1])[0] for row in range(3)]
    stream = Resampler(3, 8000, 16000)
    stream.process(np.array([0]), pcm[:1, :160])
    stream.process(np.array([2, 1]), pcm[[2, 1], :160])
    second = stream.process(np.array([1, 2, 0]), pcm[[1, 2, 0], 160:])
    for place, row in enumerate((1, 2, 0)):
        np.testing.assert_allclose(second[place], alone[row][320:], atol=1)


def test_reset_forgets_the_call_before() -> None:
    stream = Resampler(2, 8000, 16000)
    stream.process(np.array([0, 1]), np.full((2, 160), 9000, np.int16))
    stream.reset(np.array([1]))
    out = stream.process(np.array([0, 1]), np.zeros((2, 160), np.int16))
    assert out[0].any()
    assert not out[1].any()


def test_odd_rates_and_odd_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="24000"):
        Resampler(1, 24000, 8000)
    with pytest.raises(ValueError, match="161"):
        Resampler(1, 16000, 8000).process(np.array([0]), np.zeros((1, 161), np.int16))


def test_a_clip_keeps_its_length_in_time_at_any_rate() -> None:
    clip = sine(440, 24000, 24000)
    for to_hz in (8000, 16000, 22050, 24000):
        out = resample(clip, 24000, to_hz)
        assert out.dtype == np.int16
        assert abs(len(out) - to_hz) <= 1
        assert int(np.abs(np.fft.rfft(out[: to_hz // 2])).argmax()) == 220
    assert len(resample(np.zeros(0, np.int16), 8000, 16000)) == 0
