"""Rendered files, read by the parsers of App Engine's own SDK.

The SDK has a package `google`, too, so it is in a separate environment. ``BUNDLED_SDK_PYTHON`` is its Python.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from deploy.staging.templates import render
from deploy.staging.variables import MEMORY, RUNTIMES, AutomaticScaling, BasicScaling, ManualScaling, Queue, Variables

READER = """
import json, sys
from google.appengine.api import appinfo, croninfo, queueinfo

for line in sys.stdin:
    name, text = json.loads(line)
    if name == "app.yaml":
        app = appinfo.LoadSingleAppInfo(text)
        print(json.dumps({
            "runtime": app.runtime,
            "service": app.service,
            "instance_class": app.instance_class,
            "entrypoint": app.entrypoint,
            "environment": dict(app.env_variables or {}),
            "inbound_services": app.inbound_services,
            "service_account": app.service_account,
            "scaling": {
                kind: getattr(app, kind).ToDict() if getattr(app, kind) else None
                for kind in ("automatic_scaling", "basic_scaling", "manual_scaling")
            },
        }))
    elif name == "cron.yaml":
        cron = croninfo.LoadSingleCron(text)
        print(json.dumps([[job.url, job.schedule, job.target] for job in cron.cron]))
    else:
        queues = queueinfo.LoadSingleQueue(text)
        print(json.dumps([[queue.name, queue.rate, queue.bucket_size] for queue in queues.queue]))
"""

VALUES: dict[str, list[Any]] = {
    "runtime": list(RUNTIMES),
    "service": ["default", "a", "my-service-2", "s" * 63],
    "instance_class": list(MEMORY),
    "entrypoint": ["gunicorn --bind :$PORT main:app", 'sh -c "exec gunicorn main:app # x: y"'],
    "app": ["main:app", "website.wsgi:application"],
    "warmup": [True, False],
    "environment": [{}, {"A": "1", "B": 'x: "{{ y }}"\n- \u2028 \U0001f600', "_C": ""}],
    "service_account": [None, "deferred-default@my-project.iam.gserviceaccount.com"],
    "signing_keys_secret": [None, "projects/my-project/secrets/deferred-signing-keys"],
    "location": [None, "europe-west1"],
    "scaling": [
        None,
        AutomaticScaling(min_instances=0, max_instances=10),
        AutomaticScaling(min_instances=2, min_idle_instances=1, max_concurrent_requests=80),
        BasicScaling(max_instances=200, idle_timeout="90s"),
        ManualScaling(instances=3),
    ],
    "queues": [
        (Queue(),),
        (Queue(), Queue("slow", rate="0.5/h", bucket_size=1, max_concurrent_requests=1, task_retry_limit=0)),
    ],
}
"""Values of each kind for every parameter of the class Variables."""


def variants() -> list[Variables]:
    """Return Variables for each value, with all other parameters at their defaults."""
    found = []
    for name, values in VALUES.items():
        for value in values:
            others = {"instance_class": "B4"} if isinstance(value, BasicScaling | ManualScaling) else {}
            found.append(Variables(**{name: value} | others))
    return found


def read(files: list[tuple[str, str]]) -> list[Any]:
    """Return the settings that the SDK reads from files, given by name and text."""
    python = os.environ.get("BUNDLED_SDK_PYTHON")
    assert python, "Run `python3 run.py deploy-check`, which installs the SDK, or set BUNDLED_SDK_PYTHON"
    done = subprocess.run(
        [python, "-c", READER],
        input="".join(json.dumps(file) + "\n" for file in files),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_documented_variable_has_values_here():
    assert VALUES.keys() == Variables.__dataclass_fields__.keys()


def test_the_sdk_reads_the_settings_of_app_yaml():
    wanted = variants()

    for variables, app in zip(wanted, read([("app.yaml", render("app.yaml", each)) for each in wanted]), strict=True):
        context = variables.context()
        scaling = context["scaling"]
        assert app["runtime"] == variables.runtime
        assert (app["service"] or "default") == variables.service
        assert (app["instance_class"] or "F1") == variables.instance_class
        assert app["entrypoint"].removeprefix("exec ") == context["entrypoint"]  # the SDK puts it before each command
        assert app["environment"] == context["environment"]
        assert app["service_account"] == variables.service_account
        assert app["inbound_services"] == (["warmup"] if variables.warmup else None)
        kinds = {kind: settings for kind, settings in app["scaling"].items() if settings}
        read_back = {name: str(value) for name, value in kinds.pop(f"{scaling.kind}_scaling").items()}
        assert read_back == {name: str(value) for name, value in scaling.settings.items()}
        assert not kinds


def test_the_sdk_reads_the_app_yaml_of_each_sample():
    samples = sorted((Path(__file__).parent.parent.parent / "samples").glob("*/app.yaml"))
    assert [path.parent.name for path in samples] == ["django", "flask", "wsgi"]

    for app in read([("app.yaml", path.read_text()) for path in samples]):
        assert app["runtime"] == "python313"
        assert app["entrypoint"].endswith("main:app")


def test_the_sdk_reads_the_jobs_of_cron_yaml():
    services = VALUES["service"]

    crons = read([("cron.yaml", render("cron.yaml", Variables(service=service))) for service in services])

    assert crons == [[["/_ah/deferred/sweep", "every 1 minutes", service]] for service in services]


def test_the_sdk_reads_the_queues_of_queue_yaml():
    wanted = VALUES["queues"]

    files = read([("queue.yaml", render("queue.yaml", Variables(queues=queues))) for queues in wanted])

    assert files == [[[queue.name, queue.rate, queue.bucket_size] for queue in queues] for queues in wanted]


def test_the_sdk_reports_an_unknown_setting():
    with pytest.raises(AssertionError, match="instance_clas"):
        read([("app.yaml", "runtime: python313\ninstance_clas: F2\n")])
