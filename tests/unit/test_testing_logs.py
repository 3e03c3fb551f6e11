"""The log checker, on logs that are made for it, and as the pytest plugin uses it."""

from pathlib import Path

import pytest

from glupy.testing.logs import LogChecker, records

pytest_plugins = ["pytester"]


def line(level: str, text: str) -> str:
    return f"[2026-01-02 03:04:05.000006 +0000] {level} [MSGID: 1] [a.c:1:f] 0-brick: {text}\n"


TRACEBACK = """Traceback (most recent call last):
  File "handler.py", line 1, in discard
ZeroDivisionError: division by zero
"""

GOOD = line("I", "Started") + "Final graph:\n  1: volume posix\n" + line("W", "[odd]\nE no level")


def checker(tmp_path: Path, text: str) -> LogChecker:
    (tmp_path / "log").write_text(text)
    logs = LogChecker()
    logs.watch(tmp_path / "log", tmp_path / "not there")
    return logs


def test_records() -> None:
    text = "output\n" + line("I", "one") + line("E", "two\nmore of two") + line("D", "three")
    assert [record.level for record in records(text)] == ["", "I", "E", "D"]
    assert [record.text.splitlines()[-1][-5:] for record in records(text)] == [
        "utput",
        ": one",
        "f two",
        "three",
    ]
    assert list(records("")) == []


def test_a_clean_log(tmp_path: Path) -> None:
    checker(tmp_path, GOOD).check()


@pytest.mark.parametrize(
    "bad",
    [
        line("E", "failed"),
        line("C", "failed"),
        line("A", "failed"),
        line("M", "failed"),
        line("W", "handler\n" + TRACEBACK),
        line("I", "pending frames:\nsignal received: 11"),
    ],
)
def test_what_may_not_be_logged(tmp_path: Path, bad: str) -> None:
    logs = checker(tmp_path, GOOD + bad + line("I", "afterwards"))
    with pytest.raises(AssertionError, match="unexpected in the logs") as caught:
        logs.check()
    assert bad.strip() in str(caught.value)
    assert "afterwards" not in str(caught.value) and "Started" not in str(caught.value)


def test_nothing_may_be_printed(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="Fatal Python error"):
        checker(tmp_path, "Fatal Python error: Aborted\n").check()


def test_declared_records(tmp_path: Path) -> None:
    text = GOOD + line("E", "cannot discard\n" + TRACEBACK)
    allowed = checker(tmp_path, text)
    allowed.allow(r"cannot \w+", "never logged")
    allowed.check()
    expected = checker(tmp_path, text)
    expected.expect("ZeroDivisionError", "Started")
    expected.check()
    expected.expect("never logged")
    with pytest.raises(AssertionError, match="no record has 'never logged'"):
        expected.check()


def test_in_pytest(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        f"""
        import pytest

        GOOD, BAD = {GOOD!r}, {line("E", "it failed")!r}

        def log(path, logs, text):
            path.joinpath("log").write_text(text)
            logs.watch(path / "log")

        def test_good(tmp_path, logs):
            log(tmp_path, logs, GOOD)

        def test_bad(tmp_path, logs):
            log(tmp_path, logs, BAD)

        @pytest.mark.allow_log("it failed", "that too")
        def test_allowed(tmp_path, logs):
            log(tmp_path, logs, BAD)

        @pytest.mark.expect_log("it failed")
        def test_expected(tmp_path, logs):
            log(tmp_path, logs, BAD)

        @pytest.mark.expect_log("it failed")
        def test_missed(tmp_path, logs):
            log(tmp_path, logs, GOOD)
        """
    )
    result = pytester.runpytest_subprocess("--strict-markers", "-rA")
    result.assert_outcomes(passed=5, errors=2)
    result.stdout.fnmatch_lines(
        ["ERROR *::test_bad - AssertionError*", "ERROR *::test_missed - AssertionError*"]
    )


def test_only_replies_that_no_client_waits_for_may_be_lost(tmp_path: Path) -> None:
    """RELEASE and RELEASEDIR are the last that a client sends: it may go before the reply."""
    lost = (
        "[2026-01-02 03:04:05.000006 +0000] E [rpcsvc.c:1561:rpcsvc_submit_generic] 0-rpc-service: "
        "failed to submit message (XID: 0xb, Program: GlusterFS 4.x v1, ProgVers: 400, Proc: {}) "
        "to rpc-transport (tcp.brick-server)\n"
    )
    assert checker(tmp_path, lost.format(41) + lost.format(42)).problems() == []
    assert len(checker(tmp_path, lost.format(13)).problems()) == 1


def test_a_client_may_end_when_its_brick_has_gone(tmp_path: Path) -> None:
    """It wants to try again later; any other timer that is refused is an error."""
    head = "[2026-01-02 03:04:05.000006 +0000] E [timer.c:32:gf_timer_call_after] "
    tail = ") 0-timer: Either ctx is NULL or ctx cleanup started [Invalid argument]\n"
    checker(tmp_path, f"{head}(-->libgfrpc.so.0(rpc_transport_notify+0x23) {tail}").check()
    with pytest.raises(AssertionError, match="gf_timer_call_after"):
        checker(tmp_path, f"{head}(-->disperse.so(ec_unlock+0x23) {tail}").check()
