"""Comfort noise: RFC 3389 payloads, levels and spectra."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipagent.codecs import comfort_noise, level

RANDOM = np.random.default_rng(7)


def test_noise_has_the_level_that_was_asked_for() -> None:
    wanted = np.array([-30, -50, -70, -127], np.float32)
    noise = comfort_noise.generate(wanted, 8000, RANDOM)
    assert level.dbov(noise)[:3].tolist() == pytest.approx(wanted[:3].tolist(), abs=0.5)
    assert not noise[3].any()


def test_reflection_coefficients_shape_the_spectrum_and_keep_the_level() -> None:
    reflection = np.array([[-0.9, 0.0], [0.9, 0.0]], np.float32)
    packets = [comfort_noise.generate(np.full(2, -40, np.float32), 160, RANDOM, reflection) for _ in range(50)]
    noise = np.concatenate(packets, axis=1)
    low, high = (np.abs(np.fft.rfft(noise, axis=1)) ** 2)[:, 1:].reshape(2, 2, -1).sum(axis=2).T
    assert low[0] > 20 * high[0]  # a negative first coefficient is a low-pass
    assert high[1] > 20 * low[1]
    assert level.dbov(noise).tolist() == pytest.approx([-40, -40], abs=0.7)


def test_successive_packets_and_rows_differ() -> None:
    level_dbov = np.full(2, -40, np.float32)
    first, second = (comfort_noise.generate(level_dbov, 160, RANDOM) for _ in range(2))
    assert abs(np.corrcoef(first[0], first[1])[0, 1]) < 0.4
    assert abs(np.corrcoef(first[0], second[0])[0, 1]) < 0.4


def test_a_payload_reads_as_rfc_3389_writes_it() -> None:
    assert comfort_noise.parse(bytes([60])) == comfort_noise.Description(-60.0)
    description = comfort_noise.parse(bytes([0x80 | 45, 127, 127 + 64]))
    assert description is not None
    assert description.level_dbov == -45
    assert description.reflection == pytest.approx((0.0, 64 * 258 / 32768))
    assert comfort_noise.parse(b"") is None


@given(st.binary(max_size=40))
def test_any_payload_is_understood_and_survives_a_round_trip(payload: bytes) -> None:
    description = comfort_noise.parse(payload)
    if description is None:
        assert not payload
        return
    assert all(abs(k) < 1 for k in description.reflection)
    again = comfort_noise.parse(comfort_noise.serialize(description))
    assert again is not None
    assert again.level_dbov == description.level_dbov
    assert again.reflection == pytest.approx(description.reflection, abs=0.005)
    noise = comfort_noise.generate(
        np.array([description.level_dbov], np.float32), 80, RANDOM, np.array([description.reflection], np.float32)
    )
    assert noise.shape == (1, 80)
