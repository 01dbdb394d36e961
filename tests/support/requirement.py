"""Markers of requirements for tests that are rows of a table."""

from collections.abc import Mapping

import pytest

Requirement = tuple[str, str, str, str]  # RFC, section, MUST or SHOULD, sentence


def flow(
    name: str, transport: str, requirements: Mapping[str, tuple[Requirement, ...]], role: str
) -> "pytest.ParameterSet":
    """The parameters (name, transport) of one flow, with a marker for each requirement that it holds us to."""
    marks = [
        pytest.mark.rfc(number, section, level, role=role, text=text)
        for number, section, level, text in requirements.get(name, ())
    ]
    return pytest.param(name, transport, marks=marks, id=f"{name}-{'udp' if transport == 'u1' else 'tcp'}")
