"""A module of our own in PJSIP's stack, by ctypes: pjsua2 offers none to Python.

`pjsip_module` has been the same since PJSIP 1.0; messages stay opaque pointers, which only PJSIP's own functions touch.
All of it runs in the one thread that turns PJSIP's loop.
"""

import ctypes
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

from sipagent.errors import ConfigError

_POINTER: Final = ctypes.c_void_p
_ON_RX: Final = ctypes.PYFUNCTYPE(ctypes.c_int, _POINTER)
BEFORE_TRANSACTIONS: Final = 9  # after PJSIP's message log (7) and checks (8), before the transaction layer (16)
BEFORE_APPLICATION: Final = 60  # after dialogs (32) and their usages (48), before pjsua (64)
_FUNCTIONS: Final = (
    "pjsua_get_pjsip_endpt", "pjsua_call_get_max_count", "pjsua_call_get_count", "pjsip_endpt_register_module",
    "pjsip_endpt_respond_stateless", "pjsip_rx_data_clone", "pjsip_rx_data_free_cloned",
)  # fmt: skip


class _Text(ctypes.Structure):
    """pj_str_t."""

    _fields_ = (("ptr", ctypes.c_char_p), ("slen", ctypes.c_ssize_t))


class _Module(ctypes.Structure):
    """pjsip_module."""

    _fields_ = (
        *((name, _POINTER) for name in ("prev", "next")),
        ("name", _Text),
        *((name, ctypes.c_int) for name in ("id", "priority")),
        *((name, _POINTER) for name in ("load", "start", "stop", "unload")),
        *((name, _ON_RX) for name in ("on_rx_request", "on_rx_response")),
        *((name, _POINTER) for name in ("on_tx_request", "on_tx_response", "on_tsx_state")),
    )


class Stack:
    """PJSIP's C functions that pjsua2 does not offer."""

    def __init__(self) -> None:
        """Raises ConfigError when the build hides its functions: without the gate it must not face the network."""
        # PyDLL keeps the GIL: PJSIP calls back into Python, to log, while it serves us.
        self._library = ctypes.PyDLL(
            sys.modules["pjsua2._pjsua2" if "pjsua2._pjsua2" in sys.modules else "_pjsua2"].__file__
        )
        missing = [name for name in _FUNCTIONS if not hasattr(self._library, name)]
        if missing:
            raise ConfigError("sip.engine", f"this build of pjsua2 does not export {missing[0]}", "see docs/pjsua2.md")
        self._library.pjsua_get_pjsip_endpt.restype = _POINTER
        self._library.pjsip_endpt_register_module.argtypes = [_POINTER, _POINTER]
        self._library.pjsip_endpt_respond_stateless.argtypes = [
            _POINTER, _POINTER, ctypes.c_int, _POINTER, _POINTER, _POINTER,
        ]  # fmt: skip
        self._library.pjsip_rx_data_clone.argtypes = [_POINTER, ctypes.c_uint, _POINTER]
        self._library.pjsip_rx_data_free_cloned.argtypes = [_POINTER]
        self._endpoint = self._library.pjsua_get_pjsip_endpt()
        self._modules: list[Any] = []  # PJSIP keeps pointers to them

    @property
    def max_calls(self) -> int:
        """How many calls this build was compiled for, or fewer when it was told so."""
        return int(self._library.pjsua_call_get_max_count())

    @property
    def calls(self) -> int:
        """How many call slots are taken."""
        return int(self._library.pjsua_call_get_count())

    def insert(
        self, name: str, priority: int, on_request: Callable[[int], bool], on_response: Callable[[int], bool] | None
    ) -> None:
        """Put a module into the stack; its functions get a message's pointer, True = nobody else shall see it."""
        text = name.encode()
        module = _Module(name=_Text(text, len(text)), id=-1, priority=priority, on_rx_request=_guarded(on_request))
        if on_response is not None:
            module.on_rx_response = _guarded(on_response)
        self._modules.append((module, text))
        status = self._library.pjsip_endpt_register_module(self._endpoint, ctypes.byref(module))
        if status != 0:
            raise ConfigError("sip.engine", f"PJSIP takes no module (status {status})", "see docs/pjsua2.md")

    def respond(self, message: int, status: int) -> None:
        """Answer a request without making a transaction."""
        self._library.pjsip_endpt_respond_stateless(self._endpoint, message, status, None, None, None)

    def keep(self, message: int) -> int:
        """A copy of a message that outlives the callback, 0 when there is no memory; to be given to `release`."""
        copy = _POINTER()
        failed = self._library.pjsip_rx_data_clone(message, 0, ctypes.byref(copy))
        return 0 if failed else copy.value or 0

    def release(self, message: int) -> None:
        """Free what `keep` gave."""
        self._library.pjsip_rx_data_free_cloned(message)


def be_quiet() -> None:
    """Keep PJSIP from printing until it has been told where its log goes."""
    library = _library()
    if hasattr(library, "pj_log_set_level"):
        library.pj_log_set_level(0)


def _library() -> ctypes.PyDLL:
    import_module("pjsua2").Endpoint  # noqa: B018 - the wheel loads its extension at the first use
    extension = sys.modules.get("pjsua2._pjsua2") or sys.modules["_pjsua2"]  # in a wheel, or built by `make`
    return ctypes.PyDLL(extension.__file__)


def _guarded(function: Callable[[int], bool]) -> Any:
    def call(message: int) -> int:
        try:
            return int(function(message))
        except Exception:
            # C is below us: nothing may pass. What we cannot judge goes no further.
            sys.excepthook(*sys.exc_info())
            return 1

    return _ON_RX(call)
