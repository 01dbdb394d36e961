"""What stands between PJSIP's C stack and our code in its callbacks."""

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec

Parameters = ParamSpec("Parameters")


def callback(function: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """A callback that raises nothing: an exception on its way through C would end the process with all calls."""

    @functools.wraps(function)
    def guarded(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except Exception:
            # supervisor of a call: the message is lost, the calls go on
            sys.excepthook(*sys.exc_info())

    return guarded
