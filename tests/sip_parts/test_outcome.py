"""Every final status and every known cause becomes one of ten words."""

import pytest

from sipagent.sip.outcome import Outcome, Reason, outcome_of, reason_header, reasons

W = Outcome
# All final statuses of the IANA registry.
WORDS = {
    W.ANSWERED: [200, 202, 204],
    W.NOT_REACHABLE: [300, 301, 302, 305, 380, 430, 502, 504],
    W.BLOCKED: [402, 403, 428, 433, 436, 437, 438, 470, 607, 608],
    W.INVALID_NUMBER: [404, 410, 414, 416, 484, 485, 604],
    W.NO_ANSWER: [408, 480],
    W.BUSY: [486, 600],
    W.CANCELLED: [487],
    W.CONGESTED: [503],
    W.REJECTED: [603],
    W.FAILED: [
        400, 401, 405, 406, 407, 412, 413, 415, 417, 420, 421, 422, 423, 424, 425, 429, 439, 440, 469, 481, 482, 483,
        488, 489, 491, 493, 494, 500, 501, 505, 513, 555, 580, 606,
    ],
}  # fmt: skip


@pytest.mark.rfc("3261", "21", "MUST", role="UAC", text="every final status has an outcome")
@pytest.mark.rfc("5057", "5", "SHOULD", role="UAC", text="603 and 608 are told apart (RFC 8688)")
@pytest.mark.parametrize(("status", "word"), [(status, word) for word, many in WORDS.items() for status in many])
def test_every_registered_status_has_its_word(status, word):
    assert outcome_of(status) is word


@pytest.mark.parametrize("status", range(300, 700))
def test_no_status_of_the_failure_classes_is_without_a_word_or_answered(status):
    assert outcome_of(status) is not Outcome.ANSWERED


@pytest.mark.rfc("3261", "8.1.3.2", "MUST", role="UAC", text="an unknown status counts as x00 of its class")
def test_a_status_that_nobody_registered_falls_back_to_its_class():
    assert outcome_of(399) is W.NOT_REACHABLE
    assert outcome_of(499) is W.FAILED
    assert outcome_of(599) is W.FAILED
    assert outcome_of(699) is W.REJECTED
    assert outcome_of(0) is W.FAILED


@pytest.mark.rfc("3326", "2", "SHOULD", role="both", text="Reason (SIP, Q.850) is read into the outcome")
@pytest.mark.parametrize(
    ("cause", "word"),
    [
        (1, W.INVALID_NUMBER), (3, W.NOT_REACHABLE), (17, W.BUSY), (18, W.NO_ANSWER), (19, W.NO_ANSWER),
        (20, W.NOT_REACHABLE), (21, W.REJECTED), (22, W.INVALID_NUMBER), (27, W.NOT_REACHABLE),
        (28, W.INVALID_NUMBER), (34, W.CONGESTED), (38, W.CONGESTED), (41, W.CONGESTED), (42, W.CONGESTED),
        (52, W.BLOCKED), (55, W.BLOCKED), (57, W.BLOCKED), (88, W.FAILED), (102, W.NOT_REACHABLE),
    ],
)  # fmt: skip
def test_a_telling_cause_of_the_network_wins_over_the_status(cause, word):
    assert outcome_of(500, [("Reason", f"Q.850;cause={cause}")]) is word


@pytest.mark.parametrize("cause", [0, 16, 31, 127, 999])
def test_a_cause_that_says_nothing_leaves_it_to_the_status(cause):
    assert outcome_of(486, [("Reason", f'q.850 ;cause={cause};text="x"')]) is W.BUSY


def test_answered_and_cancelled_mean_what_they_say():
    headers = [("Reason", "Q.850;cause=17")]
    assert outcome_of(200, headers) is W.ANSWERED
    assert outcome_of(487, headers) is W.CANCELLED


def test_a_time_out_without_ringing_is_a_far_end_out_of_reach():
    assert outcome_of(408, rang=False) is W.NOT_REACHABLE
    assert outcome_of(408, rang=True) is W.NO_ANSWER


def test_a_request_without_status_is_judged_by_its_reason():
    assert outcome_of(0, [("Reason", 'SIP ;cause=603 ;text="Decline"')]) is W.REJECTED


def test_raw_values_are_kept_and_rubbish_is_passed_over():
    headers = [
        ("reason", 'Q.850;cause=17;text="User, busy", SIP;cause=486'),
        ("Reason", ";;="),
        ("Reason", "X;cause=y"),
    ]
    assert reasons(headers) == (Reason("Q.850", 17, "User, busy"), Reason("SIP", 486), Reason("X"))


@pytest.mark.rfc("3326", "2", "SHOULD", role="both", text="Reason is sent in a form that reads back")
def test_our_own_reason_reads_back():
    made = reason_header("Q.850", 16, 'said "bye"')
    assert reasons([made]) == (Reason("Q.850", 16, 'said "bye"'),)
