"""G.722 against wideband speech, against Asterisk's recordings, and row by row."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from sipagent.codecs.g722 import G722Rows
from sipagent.codecs.resample import resample

SOUNDS = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
ROWS = np.arange(3)


def voice(pitch_hz: float, samples: int = 16000) -> NDArray[np.int16]:
    time = np.arange(samples) / 16000
    total = sum(np.sin(2 * np.pi * pitch_hz * k * time + k * k) / k for k in range(1, int(6500 / pitch_hz)))
    return np.rint(5000 * np.asarray(total) * np.hanning(samples)).astype(np.int16)


def test_a_packet_of_20_ms_is_160_octets_and_320_samples() -> None:
    codec = G722Rows()
    octets = codec.encode(ROWS, np.zeros((3, 320), np.int16))
    assert octets.shape == (3, 160)
    assert octets.dtype == np.uint8
    pcm = codec.decode(ROWS, octets)
    assert pcm.shape == (3, 320)
    assert pcm.dtype == np.int16


def test_sound_up_to_7_khz_survives() -> None:
    sent = np.stack([voice(100), voice(170), voice(250)])
    codec = G722Rows()
    heard = codec.decode(ROWS, codec.encode(ROWS, sent))
    delay = 22  # samples, of the two quadrature mirror filters
    error = heard[:, delay:].astype(float) - sent[:, :-delay]
    assert (10 * np.log10(np.mean(error**2, axis=1) / np.mean(sent.astype(float) ** 2, axis=1)) < -20).all()
    spectrum = np.abs(np.fft.rfft(heard, axis=1))
    assert (spectrum[:, 5000:6500].max(axis=1) > 4 * spectrum[:, 7300:].max(axis=1)).all()


def test_packets_and_rows_keep_their_own_state() -> None:
    sent = np.stack([voice(100), voice(170), voice(250)])
    whole = G722Rows().encode(ROWS, sent)
    codec = G722Rows()
    order = np.array([2, 0, 1])
    parts = [codec.encode(order, sent[order, at : at + 320]) for at in range(0, 16000, 320)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole[order])
    decoded = G722Rows().decode(ROWS, whole)
    parts = [codec.decode(order, whole[order, at : at + 160]) for at in range(0, 8000, 160)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), decoded[order])


def test_a_reset_row_begins_anew_and_the_others_go_on() -> None:
    sent = np.stack([voice(100), voice(170)])
    codec, rows = G722Rows(), np.arange(2)
    first = codec.encode(rows, sent)
    codec.decode(rows, first)
    codec.reset(np.array([0]))
    again = codec.encode(rows, sent)
    np.testing.assert_array_equal(again[0], first[0])
    assert (again[1] != first[1]).any()


def test_half_a_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="321"):
        G722Rows().encode(np.array([0]), np.zeros((1, 321), np.int16))


@pytest.mark.peers
def test_asterisks_g722_recordings_decode_to_its_own_speech() -> None:
    wide, narrow = SOUNDS / "demo-congrats.g722", SOUNDS / "demo-congrats.wav"
    for path, package in ((wide, "asterisk-core-sounds-en-g722"), (narrow, "asterisk-core-sounds-en-wav")):
        if not path.exists():
            pytest.skip(f"{package} is not installed")
    octets = np.frombuffer(wide.read_bytes(), np.uint8)[None]
    decoded = resample(G722Rows().decode(np.array([0]), octets)[0], 16000, 8000)
    reference = soundfile.read(narrow, dtype="int16")[0]
    assert len(decoded) == len(reference)
    pesq = pytest.importorskip("pesq", reason="pesq is not installed").pesq
    assert pesq(8000, reference[:80000], decoded[:80000], "nb") > 4.2
    # … and that speech goes through our encoder with little loss.
    original = G722Rows().decode(np.array([0]), octets[:, :80000])
    codec = G722Rows()
    again = codec.decode(np.array([0]), codec.encode(np.array([0]), original))
    assert pesq(16000, original[0], again[0], "wb") > 4
