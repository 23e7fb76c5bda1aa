"""Errors can be sent to other processes, and say by themselves how a call went."""

import http
import pickle

import pytest

from gae_deferred import errors


@pytest.mark.parametrize(
    "error",
    [
        errors.RequestRefusedError(status=http.HTTPStatus.FORBIDDEN, reason="nothing proves it"),
        errors.BatchError(failures={4: errors.InternalError("a"), 1: errors.TransientError("b")}, total=9),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_survives_a_pickle(error: errors.Error):
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert repr(vars(copy)) == repr(vars(error))


def test_an_error_means_by_default_that_no_queue_has_the_task():
    error = errors.InternalError("failed")
    assert (error.task, error.may_be_enqueued, error.is_worth_repeating) == (None, False, False)
    assert str(error) == "failed"
