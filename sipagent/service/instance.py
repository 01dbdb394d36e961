"""Who we are to a registrar, however often we start (RFC 5626 §4.1): a UUID, kept beside the records."""

import contextlib
import os
import uuid
from pathlib import Path
from typing import Final

import structlog

log = structlog.get_logger(__name__)

FILE: Final = "instance-id"


def instance_id(directory: Path) -> str:
    """The UUID of this service, made at its first start. Where it cannot be kept, one that lasts until the end."""
    path = directory / FILE
    made = str(uuid.uuid4())
    with contextlib.suppress(OSError):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            with open(descriptor, "w", encoding="ascii") as file:  # noqa: PTH123 - only just made, and ours alone
                file.write(made + "\n")
    try:
        return str(uuid.UUID(path.read_text(encoding="ascii").strip()))
    except (OSError, ValueError) as error:
        log.warning("instance id is not kept, the registrar will take a restart for another phone", problem=str(error))
        return made
