"""Apps that move without changing an import: the bundled SDK's names on gae-deferred."""

import json
import re
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from google.cloud import tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport

from gae_deferred.testing.loop_thread import LoopThread

from ..dev.commands import FREE_PORTS, get, running, until
from ..runtime.local_app import local_cloud

DROPIN = Path(__file__).parents[3] / "lib" / "dropin" / "src"
APPS = Path(__file__).with_name("apps")
UNIT = Path(__file__).parents[2] / "unit"


def run(code: str, *paths: Path) -> subprocess.CompletedProcess[str]:
    """Run Python code in a new process that finds the drop-in and the modules in further folders."""
    folders = ":".join(map(str, (*paths, DROPIN)))
    return subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": folders}, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("app", ["legacy_flask", "legacy_django", "legacy_wsgi"])
def test_an_app_written_for_the_bundled_sdk_counts_to_30_unchanged(app: str):
    arguments = ("dev", f"{app}:app", "--port", "0", *FREE_PORTS, "--ephemeral")
    with running(*arguments, cwd=APPS, PYTHONPATH=str(DROPIN)) as command:
        url = command.wait_for(r"App\s+(http\S+)")[1]
        tasks = command.wait_for(r"Cloud Tasks\s+(\S+)")[1]
        assert get(f"{url}/counter/get") == (200, "0")
        assert get(f"{url}/counter/increment") == (200, "deferred")
        until(lambda: get(f"{url}/counter/get")[1] == "10", "the first task", lambda: command.output)
        with grpc.insecure_channel(tasks) as channel:
            client = tasks_v2.CloudTasksClient(transport=CloudTasksGrpcTransport(channel=channel))
            waiting = client.list_tasks(parent="projects/local-dev/locations/us-central1/queues/default")
            for task, count in zip(sorted(waiting, key=lambda task: task.schedule_time), ("20", "30"), strict=True):
                client.run_task(name=task.name)
                until(lambda count=count: get(f"{url}/counter/get")[1] == count, count, lambda: command.output)
        assert "a task came by the custom path" in command.output


def test_the_names_lead_to_gae_deferred_and_cloud_ndb():
    result = run(
        "import gae_deferred, google.cloud.ndb\n"
        "from google.appengine.api import taskqueue, wrap_wsgi_app\n"
        "from google.appengine.ext import deferred, ndb\n"
        "import google.appengine.ext.deferred.deferred, google.appengine.ext.ndb.key\n"
        "assert wrap_wsgi_app is gae_deferred.wrap_wsgi_app\n"
        "assert deferred.defer is gae_deferred.deferred.defer\n"
        "assert google.appengine.ext.deferred.deferred is gae_deferred.deferred\n"
        "assert ndb.Key is google.cloud.ndb.Key is google.appengine.ext.ndb.key.Key\n"
        "assert ndb.tasklets is google.cloud.ndb.tasklets\n"
        "from google.appengine.ext.ndb import metadata, stats\n"
        "assert metadata.get_kinds is google.cloud.ndb.metadata.get_kinds\n"
        "assert stats.GlobalStat is google.cloud.ndb.stats.GlobalStat\n"
        "assert taskqueue.TaskRetryOptions is gae_deferred.TaskRetryOptions\n"
        "assert taskqueue.TransientError is gae_deferred.errors.TransientError\n"
        "assert issubclass(taskqueue.TombstonedTaskError, taskqueue.Error)\n"
    )
    assert result.returncode == 0, result.stderr


def replacements() -> dict[str, str]:
    """Return the replacement of each module that the drop-in does not have, by the modules' names in the README."""
    result = run(
        "import json\n"
        "from google.appengine._missing import REPLACEMENTS\n"
        "print(json.dumps({', '.join(modules): replacement for modules, replacement in REPLACEMENTS.items()}))\n"
    )
    assert result.returncode == 0, result.stderr
    table: dict[str, str] = json.loads(result.stdout)
    return table


def test_every_import_of_a_missing_module_names_its_replacement():
    result = run(
        "import importlib\n"
        "from google.appengine._missing import REPLACEMENTS\n"
        "for modules, replacement in REPLACEMENTS.items():\n"
        "    for module in modules:\n"
        "        package, _, name = f'google.appengine.{module}'.rpartition('.')\n"
        "        for statement in (f'import {package}.{name}', f'from {package} import {name}',\n"
        "                          f'from {package}.{name} import get', f'import {package}.{name}.inner'):\n"
        "            try:\n"
        "                exec(statement)\n"
        "            except ImportError as error:\n"
        "                assert f'{package}.{name}. Replacement: {replacement}.' in str(error), (statement, error)\n"
        "            else:\n"
        "                raise AssertionError(statement)\n"
    )
    assert result.returncode == 0, result.stderr


def test_the_readme_lists_every_missing_module_with_its_replacement():
    rows = re.findall(r"^\| (`\S.*?) \| (.+) \|$", (DROPIN.parent / "README.md").read_text(), re.MULTILINE)
    assert {modules.replace("`", ""): replacement for modules, replacement in rows} == replacements()


def test_every_replacement_from_google_exists():
    named = {name for text in replacements().values() for name in re.findall(r"`(google\.[\w.]+)", text)}
    assert len(named) > 5
    result = run(f"import pydoc\nassert [each for each in {sorted(named)} if pydoc.locate(each) is None] == []\n")
    assert result.returncode == 0, result.stderr


def test_an_app_may_bring_a_missing_module_itself(tmp_path: Path):
    (tmp_path / "memcache.py").write_text("get = {}.get\n")
    result = run(
        "import google.appengine.api\n"
        f"google.appengine.api.__path__.append({str(tmp_path)!r})\n"
        "from google.appengine.api import memcache\n"
        "assert memcache.get('key') is None\n"
    )
    assert result.returncode == 0, result.stderr


def test_libraries_that_look_for_the_bundled_sdk_do_without_it():
    result = run("import google.auth.app_engine\nassert google.auth.app_engine.app_identity is None\n")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", ["google.appengine.api.labs.taskqueue", "google.appengine.api.taskqueue.taskqueue"])
def test_taskqueue_has_the_other_names_of_the_bundled_sdk(name: str):
    package, _, module = name.rpartition(".")
    result = run(
        f"import {name}\n"
        f"from {package} import {module}\n"
        f"from {name} import add\n"
        "from google.appengine.api import taskqueue as ours\n"
        f"assert {module} is {name} is ours and add is ours.add\n"
    )
    assert result.returncode == 0, result.stderr


def test_methods_are_pickled_as_by_the_bundled_sdk_so_that_they_run_after_a_roll_back():
    result = run(
        "import os, sys\n"
        f"sys.path.insert(0, {str(UNIT)!r})\n"
        "from test_bundled_sdk import PICKLES, PROTOCOLS\n"
        "from deferred_callables import cases\n"
        "from google.appengine.ext import deferred\n"
        "from gae_deferred import settings\n"
        "for protocol, setting in PROTOCOLS.items():\n"
        "    os.environ['DEFERRED_USE_CROSS_COMPATIBLE_PICKLE_PROTOCOL'] = setting\n"
        "    settings.forget()\n"
        "    for kind in ('bound method', 'class method', 'built-in method', 'built-in class method'):\n"
        "        function, args, kwargs = cases()[kind]\n"
        "        data = deferred.serialize(function, *args, **kwargs)\n"
        "        assert data == PICKLES[kind][protocol].encode('latin-1'), (kind, data)\n"
    )
    assert result.returncode == 0, result.stderr


def test_importing_the_deferred_api_loads_neither_grpc_nor_ndb():
    result = run(
        "import sys\n"
        "from google.appengine.api import wrap_wsgi_app\n"
        "from google.appengine.ext import deferred\n"
        "assert not {'grpc', 'google.cloud.ndb'} & sys.modules.keys()\n"
    )
    assert result.returncode == 0, result.stderr


@pytest.fixture
def bundled_sdk(tmp_path: Path) -> Path:
    """Return a folder with the bundled SDK's metadata, and with a file of its own in the place of ours."""
    metadata = tmp_path / "appengine_python_standard-3.1.0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: appengine-python-standard\nVersion: 3.1.0\n")
    package = tmp_path / "google" / "appengine"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    return tmp_path


def test_the_bundled_sdk_is_detected_if_the_dropin_was_installed_last(bundled_sdk: Path):
    (bundled_sdk / "google" / "appengine" / "__init__.py").unlink()  # the dropin was installed last
    result = run("from google.appengine.ext import deferred", bundled_sdk)
    assert result.returncode != 0
    assert "pip uninstall appengine-python-standard" in result.stderr


def test_the_bundled_sdk_is_detected_if_it_was_installed_last(bundled_sdk: Path):
    pth = (DROPIN / "gae_deferred_dropin.pth").read_text()  # site runs it when Python starts
    result = run(f"{pth}\nfrom google.appengine.ext import deferred", bundled_sdk)
    assert result.returncode != 0
    assert "pip uninstall appengine-python-standard" in result.stderr


def test_files_that_pip_removed_with_the_bundled_sdk_are_detected(tmp_path: Path):
    for name in ("gae_deferred_dropin.py", "gae_deferred_dropin.pth"):
        (tmp_path / name).write_text((DROPIN / name).read_text())
    left = tmp_path / "google" / "appengine" / "api" / "taskqueue.py"  # there, the bundled SDK has a package
    left.parent.mkdir(parents=True)
    left.touch()
    pth = (DROPIN / "gae_deferred_dropin.pth").read_text()
    code = f"{pth}\nfrom google.appengine.ext import deferred"
    result = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, timeout=60
    )
    assert result.returncode != 0
    assert "pip install --force-reinstall --no-deps gae-deferred-dropin" in result.stderr


def test_taskqueue_makes_tasks_as_the_bundled_sdk_does():
    result = run(
        "from google.appengine.api import taskqueue\n"
        "from gae_deferred import cloud_tasks\n"
        "sent = []\n"
        "def create_many(tasks):\n"
        "    for task in tasks:\n"
        "        sent.append((task.queue_name, task.url, task.payload, task.headers['Content-Type']))\n"
        "cloud_tasks.create_many = create_many\n"
        "assert taskqueue.add(url='/work', params={'a': 1}).url == '/work'\n"
        "taskqueue.Task('text', method='post').add('mails')\n"
        "taskqueue.Queue('mails').add([taskqueue.Task(b'bytes', url='/x'), taskqueue.Task(b'more', url='/x')])\n"
        "assert sent == [\n"
        "    ('default', '/work', b'a=1', 'application/x-www-form-urlencoded'),\n"
        "    ('mails', '/_ah/queue/mails', b'text', 'text/plain; charset=utf-8'),\n"
        "    ('mails', '/x', b'bytes', 'application/octet-stream'),\n"
        "    ('mails', '/x', b'more', 'application/octet-stream'),\n"
        "], sent\n"
        "for wrong in ({'method': 'PULL'}, {'method': 'GET'}, {'payload': b'', 'params': {'a': 1}}):\n"
        "    try:\n"
        "        taskqueue.Task(**wrong)\n"
        "    except taskqueue.InvalidTaskError:\n"
        "        continue\n"
        "    raise AssertionError(wrong)\n"
        "assert taskqueue.Task(dispatch_deadline_usec=20_500_000).dispatch_deadline == 20.5\n"
        "assert taskqueue.MIN_DISPATCH_DEADLINE.total_seconds() == 15\n"
        "assert taskqueue.MAX_DISPATCH_DEADLINE.total_seconds() == 86400\n"
        "try:\n"
        "    taskqueue.Task(dispatch_deadline_usec=20)\n"
        "except taskqueue.InvalidDispatchDeadlineError:\n"
        "    pass\n"
        "else:\n"
        "    raise AssertionError\n"
        "try:\n"
        "    taskqueue.Queue('no queue')\n"
        "except taskqueue.InvalidQueueNameError:\n"
        "    pass\n"
        "else:\n"
        "    raise AssertionError\n"
    )
    assert result.returncode == 0, result.stderr


def test_taskqueue_adds_tasks_asynchronously():
    with LoopThread() as loop, local_cloud(loop, app_url="http://127.0.0.1:9", queues=["mails"]) as cloud:
        result = run(
            "import os\n"
            f"os.environ.update({cloud.environment!r})\n"
            "import gae_deferred\n"
            "from google.appengine.api import taskqueue\n"
            "from google.appengine.ext import ndb\n"
            "def task(name):\n"
            "    return taskqueue.Task(b'', name=name, countdown=3600)\n"
            "@ndb.tasklet\n"
            "def add():\n"
            "    one = task('one').add_async('mails')\n"
            "    several = taskqueue.Queue('mails').add_async([task('two'), task('three')])\n"
            "    added = yield one, several\n"
            "    return added\n"
            "with gae_deferred.context():\n"
            "    one, (two, three) = add().get_result()\n"
            "    assert [each.name for each in (one, two, three)] == ['one', 'two', 'three']\n"
            "    assert one.was_enqueued and two.was_enqueued and three.was_enqueued\n"
            "    assert (one.queue_name, one.url) == ('mails', '/_ah/queue/mails')\n"
            "    again = task('one').add_async('mails')\n"
            "    again.wait()\n"
            "    try:\n"
            "        again.check_success()\n"
            "    except taskqueue.TaskAlreadyExistsError as error:\n"
            "        assert error.task.name == 'one'\n"
            "    else:\n"
            "        raise AssertionError\n"
        )
    assert result.returncode == 0, result.stderr


def test_adding_several_tasks_raises_an_error_of_taskqueue():
    result = run(
        "from google.appengine.api import taskqueue\n"
        "from gae_deferred import cloud_tasks, errors\n"
        "def failing_with(*failures):\n"
        "    def create_many(tasks):\n"
        "        raise errors.BatchError(dict(enumerate(failures)), len(tasks))\n"
        "    cloud_tasks.create_many = create_many\n"
        "    try:\n"
        "        taskqueue.Queue().add([taskqueue.Task(b'1', name='a'), taskqueue.Task(b'2', name='b')])\n"
        "    except taskqueue.Error as error:\n"
        "        return error\n"
        "there = taskqueue.TaskAlreadyExistsError()\n"
        "was_there = taskqueue.TombstonedTaskError()\n"
        "lost = taskqueue.TransientError()\n"
        "assert failing_with(there, was_there) is there\n"
        "assert failing_with(was_there) is was_there\n"
        "assert failing_with(was_there, lost) is lost\n"
        "assert isinstance(lost.__cause__, errors.BatchError)\n"
    )
    assert result.returncode == 0, result.stderr


def test_except_clauses_find_every_error_of_the_bundled_sdk():
    names = (
        "BadTaskStateError BadTransactionState BadTransactionStateError DatastoreError DuplicateTaskNameError "
        "InternalError InvalidDeadlineError InvalidDispatchDeadlineError InvalidEtaError InvalidLeaseTimeError "
        "InvalidMaxTasksError InvalidQueueError InvalidQueueModeError InvalidQueueNameError InvalidTagError "
        "InvalidTaskError InvalidTaskNameError InvalidTaskRetryOptionsError InvalidUrlError PermissionDeniedError "
        "QueuePausedError TaskAlreadyExistsError TaskLeaseExpiredError TaskTooLargeError TombstonedTaskError "
        "TooManyTasksError TransactionalRequestTooLargeError TransientError UnknownQueueError"
    )
    result = run(
        "from google.appengine.api import taskqueue\n"
        f"for name in {names!r}.split():\n"
        "    assert issubclass(getattr(taskqueue, name), taskqueue.Error), name\n"
        "    assert name in taskqueue.__all__, name\n"
    )
    assert result.returncode == 0, result.stderr


def test_namespace_manager_is_about_the_namespace_of_the_ndb_context():
    result = run(
        "import pytest\n"
        "from google.appengine.api import namespace_manager\n"
        "from google.appengine.ext import deferred, ndb\n"
        "from google.auth.credentials import AnonymousCredentials\n"
        "assert namespace_manager.get_namespace() == ''\n"
        "assert namespace_manager.google_apps_namespace() is None\n"
        "with pytest.raises(ndb.exceptions.ContextError):\n"
        "    namespace_manager.set_namespace('a')\n"
        "with ndb.Client(project='p', credentials=AnonymousCredentials()).context(cache_policy=lambda key: False):\n"
        "    context = ndb.get_context()\n"
        "    assert namespace_manager.get_namespace() == ''\n"
        "    namespace_manager.set_namespace('a')\n"
        "    assert namespace_manager.get_namespace() == ndb.Key('Kind', 1).namespace() == 'a'\n"
        "    assert deferred.prepare(print).namespace == 'a'\n"
        "    assert ndb.get_context().cache is context.cache\n"
        "    assert ndb.get_context().cache_policy is context.cache_policy\n"
        "    with pytest.raises(namespace_manager.BadValueError):\n"
        "        namespace_manager.set_namespace('a/b')\n"
        "    for nothing in ('', None):\n"
        "        namespace_manager.set_namespace('a')\n"
        "        namespace_manager.set_namespace(nothing)\n"
        "        assert not ndb.Key('Kind', 1).namespace()\n"
        "    namespace_manager.set_namespace('a')\n"
        "assert ndb.get_context(raise_context_error=False) is None\n"
        "assert namespace_manager.get_namespace() == ''\n"
        "for wrong in ('a/b', 'x' * 101, 7):\n"
        "    with pytest.raises(LookupError):\n"
        "        namespace_manager.validate_namespace(wrong, LookupError)\n"
    )
    assert result.returncode == 0, result.stderr


def test_importing_the_namespace_manager_loads_neither_grpc_nor_ndb():
    result = run(
        "import sys\n"
        "from google.appengine.api import namespace_manager\n"
        "assert namespace_manager.get_namespace() == ''\n"
        "assert not {'grpc', 'google.cloud.ndb'} & set(sys.modules)\n"
    )
    assert result.returncode == 0, result.stderr
