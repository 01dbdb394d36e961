import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "systemd" / "sipagent.service"
# What the planes cannot do without: shared memory, waking, process pairs, and RTP by epoll or io_uring.
NEEDED = (
    "memfd_create",
    "mmap",
    "eventfd2",
    "epoll_pwait",
    "socketpair",
    "sendmsg",
    "recvmsg",
    "sendto",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "timerfd_create",
    "clock_nanosleep",
    "prlimit64",
    "sched_getaffinity",
)
analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def settings(name: str) -> list[str]:
    lines = (line.partition("=") for line in UNIT.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))
    return [value for key, _, value in lines if key == name]


def run_analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", "--no-pager", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def system_calls(name: str) -> set[str]:
    """The calls of a set such as @system-service, with the sets within it."""
    listed = run_analyze("syscall-filter", name).stdout.splitlines()[1:]
    words = {line.strip() for line in listed if line.strip() and not line.strip().startswith("#")}
    return set().union(*(system_calls(word) if word.startswith("@") else {word} for word in words))


@analyze
def test_the_exposure_is_below_two() -> None:
    result = run_analyze("security", "--offline=true", "--threshold=20", str(UNIT))
    assert result.returncode == 0, result.stdout[-400:] + result.stderr


@analyze
def test_the_system_calls_that_the_planes_need_are_allowed() -> None:
    allowed: set[str] = set()
    for value in settings("SystemCallFilter"):
        calls = set().union(*(system_calls(word) for word in value.removeprefix("~").split()))
        allowed = allowed - calls if value.startswith("~") else allowed | calls
    assert set(NEEDED) <= allowed


def test_systemd_is_told_of_readiness_and_watches() -> None:
    assert settings("Type") == ["notify"]
    assert int(settings("WatchdogSec")[0]) <= 10
    assert settings("Restart") == ["always"]


def test_secrets_come_as_credentials() -> None:
    assert {value.partition(":")[0] for value in settings("LoadCredential")} == {"sip-password", "http-token"}


def test_it_starts_the_command_of_this_package() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    command = settings("ExecStart")[0].split()
    assert Path(command[0]).name in scripts
    assert command[1:] == ["serve", "--config", "/etc/sipagent/sipagent.toml"]


def test_only_the_address_families_in_use_are_allowed() -> None:
    assert settings("RestrictAddressFamilies") == ["AF_UNIX AF_INET AF_INET6"]


def test_the_recogniser_can_compile_its_kernels() -> None:
    assert settings("MemoryDenyWriteExecute") == []  # CTranslate2: "could not create a primitive" under it
    assert settings("ProcSubset") == []  # onnxruntime reads /proc/cpuinfo


def test_a_worker_that_eats_the_memory_does_not_take_the_service_along() -> None:
    assert settings("OOMPolicy") == ["continue"]


def test_drain_is_not_cut_short() -> None:
    assert settings("KillMode") == ["mixed"]  # SIGTERM to the parent only: the planes carry the calls that drain
    assert settings("KillSignal") == ["SIGTERM"]
