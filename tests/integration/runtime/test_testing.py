"""The local cloud inside a test: the fixture ``local_cloud`` as an app's tests use it."""

import asyncio
import datetime
import os
import pickle
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import pytest
from google.cloud import ndb
from harness import until

from gae_deferred import Task, TaskRetryOptions, deferred, emulator, headers, settings, wrap_wsgi_app
from gae_deferred.errors import BadTaskStateError, TaskAlreadyExistsError, TaskNotReadableYetError
from gae_deferred.testing import CloudForTests, TaskFailed
from gae_deferred.testing.loop_thread import LoopThread

pytest_plugins = ["pytester"]

WITHOUT_OTHER_PLUGINS = [
    argument for name in ("asyncio", "hypothesispytest", "timeout", "xdist") for argument in ("-p", f"no:{name}")
]
"""Arguments of pytest for a test run that loads no plugin but ours: the others take half of its processor time."""


class Note(ndb.Model):
    text = ndb.StringProperty()

    def shout(self, mark):
        return self.text.upper() + mark


SEEN = []


def see(*args, **kwargs):
    SEEN.append((args, kwargs))


def write(text):
    Note(id="note", text=text).put()


def fail():
    raise ZeroDivisionError("as asked")


def give_up(error):
    raise error("as asked")


def spawn(count):
    if count:
        deferred.defer(spawn, count - 1)


def spawn_forever():
    deferred.defer(spawn_forever)


@pytest.fixture(autouse=True)
def forget():
    SEEN.clear()


def test_a_task_waits_until_the_test_runs_it_and_shows_its_call(local_cloud):
    deferred.defer(see, 1, word="two")
    (task,) = local_cloud.queue.tasks()
    assert (task.call.function, task.call.args, task.call.kwargs) == (see, (1,), {"word": "two"})
    assert (task.url, task.attempts) == ("/_ah/queue/deferred", 0)
    assert SEEN == []

    call = local_cloud.queue.run_next()

    assert call == task.call
    assert SEEN == [((1,), {"word": "two"})]
    assert local_cloud.queue.tasks() == []
    assert local_cloud.queue.calls == [call]


def test_each_test_begins_with_an_empty_cloud(local_cloud):
    assert local_cloud.queue.tasks() == []
    assert local_cloud.queue.calls == []
    with local_cloud.context():
        assert Note.get_by_id("note") is None


def test_a_task_writes_to_the_datastore_that_the_test_reads(local_cloud):
    deferred.defer(write, "hello")
    local_cloud.queue.run_all()
    with local_cloud.context():
        assert Note.get_by_id("note").text == "hello"


def test_a_delayed_task_is_due_when_the_clock_has_been_advanced_exactly_so_far(local_cloud):
    deferred.defer(see, "later", _countdown=3600)
    with pytest.raises(LookupError, match="the next one is in 3600 s"):
        local_cloud.queue.run_next()
    local_cloud.clock.advance(3599.999)
    assert local_cloud.queue.run_all() == []
    local_cloud.clock.advance(0.001)
    assert len(local_cloud.queue.run_all()) == 1
    deferred.defer(see, "later still", _countdown=60)  # counts from the advanced time
    assert local_cloud.queue.tasks()[0].eta - local_cloud.clock.now() == datetime.timedelta(seconds=60)


def test_run_next_runs_the_first_task_only_and_names_the_time_of_the_next(local_cloud):
    for word, countdown in (("first", 0), ("second", 60), ("third", 90)):
        deferred.defer(see, word, _countdown=countdown)
    call = local_cloud.queue.run_next()
    assert call.args == ("first",)
    assert local_cloud.queue.calls == [call]
    assert local_cloud.queue.run_all() == []
    with pytest.raises(LookupError, match="the next one is in 60 s"):
        local_cloud.queue.run_next()
    local_cloud.clock.advance(60)
    assert [call.args for call in local_cloud.queue.run_all()] == [("second",)]
    assert [args for args, _ in SEEN] == [("first",), ("second",)]


def test_an_empty_queue_says_so(local_cloud):
    with pytest.raises(LookupError, match="'default' is empty"):
        local_cloud.queue.run_next()


def test_the_error_of_a_task_is_raised_in_the_test_and_the_task_waits_for_its_retry(local_cloud):
    deferred.defer(fail, _retry_options=TaskRetryOptions(min_backoff_seconds=10, task_retry_limit=1))
    with pytest.raises(ZeroDivisionError, match="as asked"):
        local_cloud.queue.run_next()
    (task,) = local_cloud.queue.tasks()
    assert task.attempts == 1
    assert task.eta - local_cloud.clock.now() == datetime.timedelta(seconds=10)
    local_cloud.clock.advance(10)
    with pytest.raises(ZeroDivisionError):
        local_cloud.queue.run_next()
    assert local_cloud.queue.tasks() == []  # given up


def test_the_two_failures_that_the_library_handles_are_not_raised_in_the_test(local_cloud):
    deferred.defer(give_up, deferred.PermanentTaskFailure)
    assert local_cloud.queue.run_next().function is give_up
    assert local_cloud.queue.tasks() == []

    deferred.defer(give_up, deferred.SingularTaskFailure)
    with pytest.raises(TaskFailed, match=r"test_testing\.give_up was answered with 408"):
        local_cloud.queue.run_next()
    assert local_cloud.queue.tasks()[0].attempts == 1


def test_run_all_runs_the_tasks_that_tasks_enqueue_and_stops_an_endless_chain(local_cloud):
    deferred.defer(spawn, 5)
    assert [call.args for call in local_cloud.queue.run_all()] == [(5,), (4,), (3,), (2,), (1,), (0,)]
    deferred.defer(spawn_forever)
    with pytest.raises(RuntimeError, match="20 tasks"):
        local_cloud.queue.run_all(limit=20)


def test_run_together_runs_due_tasks_at_the_same_time_and_keeps_failed_ones(local_cloud):
    meeting = threading.Barrier(3, timeout=30)
    local_cloud.app = meet_in(meeting)
    for number in range(3):
        deferred.defer(see, number)
    deferred.defer(see, "later", _countdown=1)
    assert len(local_cloud.queue.run_together()) == 3
    local_cloud.app = wrap_wsgi_app(deferred.application)
    deferred.defer(fail)
    local_cloud.clock.advance(1)
    assert [call.args for call in local_cloud.queue.run_together()] == [("later",)]
    assert [task.call.function for task in local_cloud.queue.tasks()] == [fail]


def test_a_task_that_failed_in_run_together_may_succeed_afterwards(local_cloud):
    deferred.defer(write_when_told)
    assert local_cloud.queue.run_together() == []
    SEEN.append("told")
    local_cloud.clock.advance(1)
    assert local_cloud.queue.run_next().function is write_when_told
    assert [call.function for call in local_cloud.queue.calls] == [write_when_told, write_when_told]


def write_when_told():
    if not SEEN:
        fail()
    write("as told")


def meet_in(meeting):
    def app(environ, start_response):
        meeting.wait()  # goes on when all have come, which proves that they run at the same time
        start_response("200 OK", [])
        return [b""]

    return app


def test_an_unreadable_deferred_call_is_not_taken_for_a_request_of_another_kind(local_cloud):
    deferred.defer_many([Task(b"no pickle", headers={headers.CALLABLE.name: "shop.remind"})])
    (task,) = local_cloud.queue.tasks()
    assert task.call is None
    assert isinstance(task.problem, pickle.UnpicklingError)


def test_a_request_of_another_kind_waits_and_runs_beside_deferred_calls(local_cloud):
    requests = []

    def app(environ, start_response):
        requests.append(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        start_response("200 OK", [])
        return []

    local_cloud.app = app
    deferred.defer(see, 1)
    deferred.defer_many([Task(b"a=1", url="/work")])
    form = next(task for task in local_cloud.queue.tasks() if task.url == "/work")
    assert (form.call, form.body) == (None, b"a=1")
    (called,) = local_cloud.queue.run_all()
    assert called.function is see
    assert local_cloud.queue.calls == [called]
    assert b"a=1" in requests
    deferred.defer_many([Task(b"a=2", url="/work")])
    assert local_cloud.queue.run_together() == []
    assert requests[2:] == [b"a=2"]


def test_tasks_go_to_the_app_that_the_test_names(local_cloud):
    def app(environ, start_response):
        SEEN.append(environ["PATH_INFO"])
        start_response("200 OK", [])
        return [b""]

    local_cloud.app = wrap_wsgi_app(app, use_deferred=True)
    deferred.defer(see, "by the handler")
    deferred.defer(see, "by the app", _url="/custom/path")
    local_cloud.queue.run_all()
    assert SEEN == [(("by the handler",), {}), "/custom/path"]


@pytest.mark.parametrize("status", ["300 Multiple Choices", "502 Bad Gateway"])
def test_an_app_that_answers_with_a_failure_fails_the_test(status, local_cloud):
    def app(environ, start_response):
        start_response(status, [])
        return [b""]

    local_cloud.app = app
    deferred.defer(see)
    with pytest.raises(TaskFailed, match=rf"test_testing\.see was answered with {status[:3]}"):
        local_cloud.queue.run_next()
    local_cloud.clock.advance(1)
    assert local_cloud.queue.run_together() == []
    assert local_cloud.queue.tasks()[0].attempts == 2


@pytest.mark.parametrize("status", ["200 OK", "204 No Content", "299 Fine"])
def test_an_app_may_answer_with_any_success(status, local_cloud):
    def app(environ, start_response):
        start_response(status, [])
        return []

    local_cloud.app = app
    deferred.defer(see)
    deferred.defer(see)
    assert local_cloud.queue.run_next().function is see
    assert len(local_cloud.queue.run_together()) == 1


def test_an_app_that_raises_answers_500_to_other_callers(local_cloud):
    local_cloud.app = lambda environ, start_response: fail()
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{local_cloud.app_url}/page")
    assert (caught.value.code, caught.value.read()) == (500, b"The task failed")


def test_other_queues_and_names_are_as_in_the_real_cloud(local_cloud):
    mail = local_cloud.queue_named("mail")
    deferred.defer(see, "mail", _queue="mail", _name="once")
    with pytest.raises(TaskAlreadyExistsError):
        deferred.defer(see, "mail", _queue="mail", _name="once")
    assert local_cloud.queue.tasks() == []
    assert mail.tasks()[0].name == "once"
    mail.run_all()
    with pytest.raises(TaskAlreadyExistsError):
        deferred.defer(see, "mail", _queue="mail", _name="once")


def test_a_bound_method_is_shown_as_the_method_that_was_deferred(local_cloud):
    deferred.defer(Note(text="hello").shout, "!")
    call = local_cloud.queue.run_next()
    assert (call.function.__name__, call.args) == ("shout", ("!",))


@pytest.mark.parametrize("value", ["x" * 3 * 2**20, os.urandom(3 * 2**19)], ids=["compressed", "stored"])
def test_a_large_call_is_shown_as_the_call_that_was_deferred(value, local_cloud):
    deferred.defer(see, value)
    (task,) = local_cloud.queue.tasks()
    assert (task.call.function, task.call.args) == (see, (value,))
    local_cloud.queue.run_all()
    assert [((value,), {})] == SEEN


def test_a_name_that_the_package_does_not_have_cannot_be_imported():
    with pytest.raises(ImportError, match="CloudForTest"):
        exec("from gae_deferred.testing import CloudForTest")  # noqa: S102  # type checkers see the mistake, too


def test_the_environment_is_as_before_after_the_block(monkeypatch):
    monkeypatch.setenv("CLOUD_TASKS_EMULATOR_HOST", "elsewhere:1")
    monkeypatch.delenv("DATASTORE_EMULATOR_HOST", raising=False)
    with CloudForTests() as cloud, cloud.in_use():
        assert os.environ["CLOUD_TASKS_EMULATOR_HOST"] == cloud.environment["CLOUD_TASKS_EMULATOR_HOST"]
    assert os.environ["CLOUD_TASKS_EMULATOR_HOST"] == "elsewhere:1"
    assert "DATASTORE_EMULATOR_HOST" not in os.environ


def test_a_process_that_has_found_itself_on_app_engine_is_not_there_in_the_block(monkeypatch):
    monkeypatch.setenv("GAE_ENV", "standard")
    monkeypatch.setenv("GAE_APPLICATION", "s~my-project")
    monkeypatch.setenv("GAE_INSTANCE", "instance-1")
    assert settings.on_app_engine()
    with CloudForTests() as cloud, cloud.in_use():
        assert not settings.on_app_engine()
        assert settings.signing_keys() == cloud.environment["DEFERRED_SIGNING_KEYS"]
    assert settings.on_app_engine()


def test_each_test_has_its_own_settings(pytester):
    pytester.makepyfile(
        """
        import pytest
        from gae_deferred import settings

        @pytest.mark.parametrize("value", ["localdev", "standard", "localdev"])
        def test_app_engine(value, monkeypatch):
            monkeypatch.setenv("GAE_APPLICATION", "s~my-project")
            monkeypatch.setenv("GAE_INSTANCE", "instance-1")
            monkeypatch.setenv("GAE_ENV", value)
            assert settings.on_app_engine() is (value == "standard")
        """
    )
    pytester.runpytest_subprocess(*WITHOUT_OTHER_PLUGINS).assert_outcomes(passed=3)


def test_the_queues_of_the_apps_queue_yaml_are_there_in_each_test(pytester):
    pytester.path.joinpath("queue.yaml").write_text("queue:\n- name: mail\n  rate: 5/s\n")
    pytester.makepyfile(
        """
        import pytest
        from gae_deferred import deferred, errors

        @pytest.mark.parametrize("time", [1, 2])
        def test_mail(local_cloud, time):
            deferred.defer(len, "x", _queue="mail")
            assert local_cloud.queue_named("mail").run_next().function is len
            with pytest.raises(errors.UnknownQueueError):
                deferred.defer(len, "x", _queue="other")

        def test_shared(session_local_cloud):
            deferred.defer(len, "x", _queue="mail")
        """
    )
    pytester.runpytest_subprocess(*WITHOUT_OTHER_PLUGINS).assert_outcomes(passed=3)


def test_the_shared_fixture_keeps_the_tasks_of_earlier_tests(pytester):
    pytester.makepyfile(
        """
        from gae_deferred import deferred

        def test_first(session_local_cloud):
            deferred.defer(print, "left")

        def test_second(session_local_cloud):
            assert session_local_cloud.queue.run_next().args == ("left",)
        """
    )
    pytester.runpytest_subprocess(*WITHOUT_OTHER_PLUGINS).assert_outcomes(passed=2)


def test_client_of_the_local_cloud_uses_no_proxy(monkeypatch):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with CloudForTests() as cloud:
        assert cloud.client.get_queue(name=cloud.queue_path("default")).name == cloud.queue_path("default")


class Loose(ndb.Expando):
    pass


def test_a_task_that_cannot_be_read_hides_no_other(local_cloud):
    with local_cloud.context():
        deferred.defer(see, Loose(inside=Note(text="NDB pickles this, and cannot unpickle it")))
    deferred.defer(see, "readable")
    tasks = local_cloud.queue.tasks()
    assert [task.call and task.call.args for task in tasks] == [None, ("readable",)]
    assert isinstance(tasks[0].problem, TypeError)
    assert tasks[1].problem is None
    with pytest.raises(TaskNotReadableYetError):
        local_cloud.queue.run_next()
    local_cloud.queue.run_next()
    assert SEEN == [(("readable",), {})]


def cancel_itself(name):
    task = Task(b"x", name=name)
    task.was_enqueued = True
    SEEN.append(deferred.cancel(task))


def test_a_task_that_waits_is_cancelled_and_one_that_runs_or_has_run_is_not(local_cloud):
    waits = deferred.defer(see, 1)
    later = deferred.defer(see, 2, _countdown=60)
    assert deferred.cancel(waits) is True
    assert deferred.cancel(later) is True
    assert local_cloud.queue.tasks() == []
    assert deferred.cancel(waits) is False

    running = deferred.defer(cancel_itself, "running", _name="running")
    local_cloud.queue.run_next()
    assert SEEN == [False]
    assert deferred.cancel(running) is False


def test_a_transactional_task_is_cancelled_when_its_transaction_has_committed(local_cloud):
    def defer_and_cancel():
        task = deferred.defer(see, 1, _transactional=True)
        with pytest.raises(BadTaskStateError, match="its transaction has not committed"):
            deferred.cancel(task)
        return task

    with local_cloud.context():
        task = ndb.transaction(defer_and_cancel)
    assert deferred.cancel(task) is True
    assert local_cloud.queue.tasks() == []


def test_a_failed_task_that_waits_for_its_next_attempt_is_cancelled(local_cloud):
    task = deferred.defer(fail)
    with pytest.raises(ZeroDivisionError):
        local_cloud.queue.run_next()
    assert deferred.cancel(task) is True
    assert local_cloud.queue.tasks() == []


def test_tasks_that_are_due_together_run_in_the_order_in_which_they_were_deferred(local_cloud):
    for number in range(20):
        deferred.defer(see, number)
    deferred.defer_many(deferred.prepare(see, number) for number in range(20, 40))
    local_cloud.queue.run_all()
    assert [args[0] for args, _ in SEEN] == [*range(40)]


def test_two_local_clouds_serve_their_apps_beside_each_other():
    with CloudForTests() as one, CloudForTests() as other:
        assert one.app_url != other.app_url
        assert one.app is not other.app


def test_a_local_cloud_that_is_reset_is_as_at_its_beginning():
    with CloudForTests() as cloud, cloud.in_use():
        cloud.app = lambda environ, start_response: fail()
        deferred.defer(see, "waits", _name="waits")
        cloud.queue.run_together()
        request = urllib.request.Request(cloud.app_url, headers={"X-AppEngine-TaskName": "failed"})
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(request)
        with cloud.context():
            write("before")
        cloud.clock.advance(3600)

        cloud.reset()

        assert abs(cloud.clock.now() - datetime.datetime.now(datetime.UTC)) < datetime.timedelta(minutes=1)
        assert (cloud.queue.tasks(), cloud.queue.calls) == ([], [])
        with cloud.context():
            assert Note.get_by_id("note") is None
        deferred.defer(see, "again", _name="waits")
        deferred.defer(see, "no error from before", _name="failed")
        assert len(cloud.queue.run_all()) == 2


def test_a_closed_local_cloud_leaves_neither_threads_nor_servers():
    before = set(threading.enumerate())
    with CloudForTests() as cloud:
        addresses = [cloud.environment["CLOUD_TASKS_EMULATOR_HOST"], cloud.app_url.removeprefix("http://")]
        assert all(map(emulator.listens, addresses))
    assert not any(map(emulator.listens, addresses))
    until(lambda: set(threading.enumerate()) <= before)


def test_an_event_loop_in_a_thread_is_closed_after_what_it_has_begun():
    began = threading.Event()

    def take_a_moment():
        began.set()
        threading.Event().wait(0.1)

    with LoopThread() as thread:
        loop = thread.call(asyncio.get_running_loop)
        loop.call_soon_threadsafe(take_a_moment)
        assert began.wait(10)
    assert loop.is_closed()


def test_a_process_may_end_with_an_open_local_cloud_whose_app_hangs():
    code = """
import threading, urllib.request
from gae_deferred.testing import CloudForTests

def app(environ, start_response):
    began.set()
    threading.Event().wait()

began = threading.Event()
cloud = CloudForTests().__enter__()
cloud.app = app
threading.Thread(target=urllib.request.urlopen, args=[cloud.app_url], daemon=True).start()
began.wait()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
