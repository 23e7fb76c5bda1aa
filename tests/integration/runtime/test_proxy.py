"""A proxy in the environment does not come between an app and the local cloud."""

import os
import subprocess
import sys

import pytest
from harness import Cloud

from gae_deferred import cloud_tasks
from gae_deferred.per_process import PerProcess

PROXY = "http://127.0.0.1:9"
"""Nobody listens there."""

APP = """
import os
from google.cloud import ndb
from gae_deferred import datastore, deferred, wrap_wsgi_app

class Note(ndb.Model):
    text = ndb.StringProperty()

before = dict(os.environ)
with datastore.context():
    key = Note(text="by no proxy").put()
    assert deferred.defer(len, "ab", _queue="paused").was_enqueued
    ndb.transaction(lambda: deferred.defer(len, "abc", _queue="paused", _transactional=True))
    assert datastore.run_outside_transaction(key.get).text == "by no proxy"
assert dict(os.environ) == before
print("done")
"""

TEST = """
from gae_deferred import deferred
from gae_deferred.testing import CloudForTests

with CloudForTests() as cloud, cloud.in_use():
    deferred.defer(len, "ab")
    cloud.queue.run_all()
    assert [call.function for call in cloud.queue.calls] == [len]
print("done")
"""


def run_behind_a_proxy(code: str, environment: dict[str, str]) -> str:
    names = ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy")
    proxies = {each: PROXY for name in names for each in (name, name.upper())}
    others = {name: value for name, value in os.environ.items() if name.lower() not in ("no_proxy", "no_grpc_proxy")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=others | environment | proxies | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout or done.stderr


def test_an_app_behind_a_proxy_reaches_the_local_cloud(cloud: Cloud):
    cloud.pause()
    assert run_behind_a_proxy(APP, cloud.environment) == "done\n"
    assert len(cloud.tasks()) == 2


def test_a_warm_up_behind_a_proxy_connects(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    for name in ("no_proxy", "no_grpc_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("grpc_proxy", PROXY)
    monkeypatch.setattr(cloud_tasks, "_client", PerProcess(cloud_tasks._make_client))
    cloud_tasks.warm_up()


def test_a_test_behind_a_proxy_uses_the_fixture(cloud: Cloud):
    assert run_behind_a_proxy(TEST, {}) == "done\n"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_certificates_of_the_local_issuer_are_fetched_without_a_proxy(host: str, cloud: Cloud):
    issuer = cloud.environment["DEFERRED_OIDC_ISSUER"].replace("127.0.0.1", host)
    code = f"from gae_deferred import oidc; print(len(oidc._fetch('{issuer}/oauth2/v1/certs')) > 0)"
    assert run_behind_a_proxy(code, {}) == "True\n"
