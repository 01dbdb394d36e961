"""`python -m bench`: one benchmark that fails does not take the others along."""

from pathlib import Path

import pytest

from bench import __main__ as runner
from bench.plan import BENCHMARKS, Benchmark
from bench.show import lines


def module(folder: Path, monkeypatch: pytest.MonkeyPatch, **bodies: str) -> None:
    """Benchmarks of a test, as modules of a package `bench` in `folder`."""
    package = folder / "bench"
    package.mkdir()
    (package / "__init__.py").touch()
    for name, body in bodies.items():
        (package / f"{name}.py").write_text(body)
    monkeypatch.setattr(runner, "ROOT", folder)


def test_a_failing_benchmark_is_told_and_the_next_one_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module(tmp_path, monkeypatch, bad="raise SystemExit('no compiler')", good="print('{\"figure\": 7}')")
    results = runner.run_all([Benchmark("bad", "fails"), Benchmark("good", "works")], quick=True)
    assert results["bad"][0]["problem"] == "exit status 1: no compiler"
    assert results["good"][0]["result"] == {"figure": 7}
    shown = capsys.readouterr().out
    assert "FAILED: exit status 1: no compiler" in shown
    assert "figure  7" in shown


def test_a_benchmark_that_hangs_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module(tmp_path, monkeypatch, slow="import time; time.sleep(60)")
    assert runner.run(Benchmark("slow", ""), (), 0.5)["problem"] == "stopped after 0 s"


def test_one_that_prints_no_json_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module(tmp_path, monkeypatch, words="print('all is well')", nothing="")
    assert runner.run(Benchmark("words", ""), (), 20.0)["problem"] == "printed no JSON object"
    assert runner.run(Benchmark("nothing", ""), (), 20.0)["problem"] == "printed no JSON object"


def test_every_benchmark_of_the_plan_that_exists_takes_json() -> None:
    for benchmark in BENCHMARKS:
        if benchmark.exists:
            folder = Path(runner.__file__).parent
            paths = (folder / f"{benchmark.name}.py", folder / benchmark.name / "__main__.py")
            assert any(path.exists() and '"--json"' in path.read_text() for path in paths), benchmark.name


def test_a_list_of_objects_is_shown_as_a_table() -> None:
    shown = list(lines({"calls": 2, "rows": [{"peer": "a", "ms": {"p50": 1.0}}, {"peer": "b", "ms": {"p50": 2.5}}]}))
    assert shown == ["  calls  2", "  rows:", "    peer  ms.p50", "       a       1", "       b     2.5"]
