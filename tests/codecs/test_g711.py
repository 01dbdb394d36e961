"""G.711 against sox (decoding) and against the formulas of ITU-T G.191 (encoding)."""

import math
import shutil
import subprocess

import numpy as np
import pytest

from sipagent.codecs import g711

EVERY_OCTET = np.arange(256, dtype=np.uint8)
EVERY_SAMPLE = np.arange(-32768, 32768).astype(np.int16)


def reference_ulaw(sample: int) -> int:
    """`ulaw_compress` of ITU-T G.191, on 14 bits."""
    magnitude = min(((~sample if sample < 0 else sample) >> 2) + 33, 0x1FFF)
    segment = int(math.log2(magnitude)) - 5
    code = (segment << 4) | ((magnitude >> (segment + 1)) & 0xF)
    return (~code & 0x7F) | (0x80 if sample >= 0 else 0)


def reference_alaw(sample: int) -> int:
    """`alaw_compress` of ITU-T G.191."""
    code = (~sample if sample < 0 else sample) >> 4
    if code > 15:
        exponent = 1
        while code > 16 + 15:
            code >>= 1
            exponent += 1
        code = code - 16 + (exponent << 4)
    return (code | (0x80 if sample >= 0 else 0)) ^ 0x55


@pytest.mark.parametrize(("law", "encoding"), [(g711.PCMU, "mu-law"), (g711.PCMA, "a-law")])
@pytest.mark.peers
def test_decoding_is_bit_exact_with_sox(law: int, encoding: str) -> None:
    sox = shutil.which("sox")
    if sox is None:
        pytest.skip("sox is not installed")
    command = [sox, "-D", "-t", "raw", "-r", "8000", "-e", encoding, "-c", "1", "-", "-t", "s16", "-"]
    theirs = np.frombuffer(subprocess.run(command, input=EVERY_OCTET.tobytes(), capture_output=True).stdout, "<i2")
    np.testing.assert_array_equal(g711.DECODE[law], theirs)


def test_encoding_is_bit_exact_with_the_itu_reference() -> None:
    samples = EVERY_SAMPLE[::7].tolist()
    assert g711.ulaw_encode(EVERY_SAMPLE[::7].copy()).tolist() == [reference_ulaw(s) for s in samples]
    assert g711.alaw_encode(EVERY_SAMPLE[::7].copy()).tolist() == [reference_alaw(s) for s in samples]


def test_what_was_decoded_encodes_to_a_value_that_decodes_alike() -> None:
    for encode, decode in ((g711.ulaw_encode, g711.ulaw_decode), (g711.alaw_encode, g711.alaw_decode)):
        pcm = decode(EVERY_OCTET)
        np.testing.assert_array_equal(decode(encode(pcm)), pcm)


def test_a_mixed_batch_is_decoded_and_encoded_at_once() -> None:
    law = np.array([g711.PCMU, g711.PCMA, g711.PCMU])
    octets = np.random.default_rng(1).integers(0, 256, (3, 160), dtype=np.uint8)
    pcm = g711.decode(law, octets)
    assert pcm.dtype == np.int16
    np.testing.assert_array_equal(pcm, g711.DECODE[law[:, None], octets])
    np.testing.assert_array_equal(pcm[1], g711.alaw_decode(octets[1]))
    again = g711.encode(law, pcm)
    assert again.dtype == np.uint8
    np.testing.assert_array_equal(again, g711.ENCODE[law[:, None], pcm.view(np.uint16)])
    np.testing.assert_array_equal(again[0], g711.ulaw_encode(pcm[0]))


def test_silence_octets_are_the_quietest_ones() -> None:
    assert g711.ulaw_decode(np.array([g711.SILENCE[g711.PCMU]], np.uint8))[0] == 0
    assert abs(g711.alaw_decode(np.array([g711.SILENCE[g711.PCMA]], np.uint8))[0]) == 8
