"""What a conversation worker is told at its start."""

import msgspec

from sipagent.service.messages import Talk


class WorkerSettings(msgspec.Struct, frozen=True):
    """All that a worker needs beside its sockets; the same for each worker."""

    talks: tuple[Talk, ...] = ()  # of the routes: their brains are imported and their models loaded before Ready
    model_path: str = ""  # folder that stands in for the packages of the extra [offline]
    brain_paths: tuple[str, ...] = ()  # folders in which brain modules are looked for, besides the working directory
    log_level: str = "info"
    log_format: str = "auto"  # auto | console | json
    apology: str = ""  # WAV file for a caller whose conversation failed, "" = the packaged one
