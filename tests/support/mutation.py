"""SIP messages, damaged at random: the torture messages of RFC 4475 and whatever else is given."""

import random
from pathlib import Path

MESSAGES = [path.read_bytes() for path in sorted((Path(__file__).parents[1] / "sip" / "torture").glob("*.dat"))]
POISON = (b"\r\n", b";", b",", b'"', b"<", b"%00", b"\xff", b"9" * 40, b" ")


def mutate(data: bytes, rng: random.Random) -> bytes:
    """A few bytes, lines or numbers changed."""
    for _ in range(rng.randrange(1, 6)):
        kind = rng.randrange(6)
        at = rng.randrange(len(data) or 1)
        if kind == 0:
            data = data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
        elif kind == 1:
            data = data[:at] + data[at + rng.randrange(1, 30) :]
        elif kind == 2:
            data = (
                data[:at] + rng.choice((b"\r\n", b";", b",", b'"', b"<", b"%00", b"\xff", b"9" * 40, b" ")) + data[at:]
            )
        elif kind == 3:
            lines = data.split(b"\r\n")
            rng.shuffle(lines)
            data = b"\r\n".join(lines)
        elif kind == 4:
            lines = data.split(b"\r\n")
            data = b"\r\n".join([*lines, rng.choice(lines)])
        else:
            other = rng.choice(MESSAGES)
            data = data[:at] + other[rng.randrange(len(other)) :]
    return data
