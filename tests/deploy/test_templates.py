"""Templates: the rendered files, and the values that are refused."""

from pathlib import Path

import pytest
import yaml

from deploy.errors import TemplateError, VariableError
from deploy.staging.templates import FOLDER, render
from deploy.staging.variables import MEMORY, AutomaticScaling, BasicScaling, ManualScaling, Queue, Variables

SAMPLES = Path(__file__).parent.parent.parent / "samples"

HOSTILE = [
    'say "hi"',
    "it's",
    "key: value",
    "a\nruntime: python27",
    "{{ runtime }}",
    "{% raw %}",
    "# no comment",
    " leading and trailing ",
    "- item",
    "*anchor",
    "&anchor",
    "!tag",
    "%directive",
    "@at `tick`",
    "true",
    "null",
    "1.0",
    "0o17",
    "2026-11-21",
    "",
    "\t",
    "\\n",
    "---\nx",
    "ä \u2028 \U0001f600 \x7f \x85",
    "x" * 5000,
    "x " * 500,
]
"""Values with a meaning in YAML or Jinja2, which must have none here."""


def rendered(**variables) -> dict:
    return yaml.safe_load(render("app.yaml", Variables(**variables)))


@pytest.mark.parametrize("sample", ["flask", "django", "wsgi"])
@pytest.mark.parametrize("name", ["app.yaml", ".gcloudignore"])
def test_the_files_of_the_samples_equal_the_templates_with_default_values(sample, name):
    assert (SAMPLES / sample / name).read_text() == render(name, Variables())


@pytest.mark.parametrize("value", HOSTILE, ids=ascii)
def test_the_value_of_an_environment_variable_survives_rendering(value):
    settings = rendered(environment={"BEFORE": "x", "VALUE": value, "WHEN": "y"})

    assert settings["env_variables"] == {"BEFORE": "x", "VALUE": value, "WHEN": "y"}
    assert settings["runtime"] == "python313"


@pytest.mark.parametrize("value", [value for value in HOSTILE if value.strip()], ids=ascii)
def test_the_entrypoint_survives_rendering(value):
    assert rendered(entrypoint=value)["entrypoint"] == value


def test_an_unknown_variable_is_an_error_with_its_name_and_file(tmp_path):
    (tmp_path / "app.yaml").write_text("runtime: {{ runtimes }}\n")

    with pytest.raises(TemplateError, match=r"app\.yaml: 'runtimes' is undefined"):
        render("app.yaml", Variables(), tmp_path)


def test_a_syntax_error_in_a_template_is_an_error_with_its_line(tmp_path):
    (tmp_path / "app.yaml").write_text("a: 1\nb: {{ runtime\n")

    with pytest.raises(TemplateError, match=r"app\.yaml, line 2: "):
        render("app.yaml", Variables(), tmp_path)


def test_every_template_renders():
    for path in FOLDER.iterdir():
        assert render(path.name, Variables())


@pytest.mark.parametrize("name", MEMORY)
def test_gunicorn_fits_the_instance_class(name):
    settings = rendered(instance_class=name)

    words = settings["entrypoint"].split()
    workers = int(words[words.index("--workers") + 1])
    assert workers * 384 <= MEMORY[name]
    assert workers == {"F1": 1, "B1": 1, "F2": 2, "B2": 2, "F4": 4, "B4": 4}.get(name, 8)
    if name.startswith("F"):
        assert settings["automatic_scaling"]["max_concurrent_requests"] == workers * 8


def test_every_kind_of_scaling_is_rendered_with_its_limits():
    automatic = AutomaticScaling(min_instances=1, max_instances=5, min_idle_instances=2, max_concurrent_requests=20)
    basic = BasicScaling(max_instances=3, idle_timeout="10m")

    assert rendered(scaling=automatic)["automatic_scaling"] == {
        "min_instances": 1,
        "max_instances": 5,
        "min_idle_instances": 2,
        "max_concurrent_requests": 20,
    }
    assert rendered(scaling=basic, instance_class="B2")["basic_scaling"] == {"max_instances": 3, "idle_timeout": "10m"}
    assert rendered(scaling=ManualScaling(instances=2), instance_class="B1")["manual_scaling"] == {"instances": 2}


def test_the_secret_and_the_account_are_rendered():
    secret = "projects/my-project/secrets/keys"
    account = "app@my-project.iam.gserviceaccount.com"
    settings = rendered(signing_keys_secret=secret, service_account=account, location="us-central1")

    assert settings["service_account"] == account
    assert settings["env_variables"] == {
        "DEFERRED_LOCATION": "us-central1",
        "DEFERRED_SIGNING_KEYS_SECRET": secret,
    }


def test_warm_up_can_be_switched_off():
    assert rendered()["inbound_services"] == ["warmup"]
    assert "inbound_services" not in rendered(warmup=False)


REFUSED = [
    ({"runtime": "python27"}, "runtime is 'python27', but must be one of python311"),
    ({"runtime": "python313\nx: y"}, "runtime is"),
    ({"service": "My_Service"}, "service is 'My_Service', but must be 1 to 63 lower-case"),
    ({"service": "ah-mine"}, "ah-"),
    ({"service": "a\n"}, "service is"),
    ({"instance_class": "F3"}, "instance class is 'F3', but must be one of F1, F2"),
    ({"app": "main"}, "app is 'main', but must be module:name"),
    ({"entrypoint": " "}, "entrypoint is ' ', but must be a command"),
    ({"environment": {"1A": "x"}}, "'1A'"),
    ({"environment": {"GAE_SERVICE": "x"}}, "App Engine sets this one itself"),
    ({"environment": {"PORT": "1"}}, "App Engine sets this one itself"),
    ({"environment": {"A": 1}}, "environment variable A is 1, but must be text"),
    ({"environment": {"A": "\0"}}, "environment variable A is"),
    ({"service_account": "somebody@example.com"}, "e-mail address of a service account"),
    ({"signing_keys_secret": "keys"}, "projects/PROJECT/secrets/NAME"),
    ({"scaling": ManualScaling(instances=1)}, "instance class is 'F1', but must be one of B1"),
    ({"scaling": AutomaticScaling(), "instance_class": "B1"}, "but must be one of F1"),
]


@pytest.mark.parametrize(("variables", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_a_value_that_app_engine_refuses_is_named_with_the_rule(variables, message):
    with pytest.raises(VariableError) as error:
        Variables(**variables)

    assert message in str(error.value)


LIMITS = [
    (AutomaticScaling, {"min_instances": -1}, "min_instances is -1, but must be a number from 0 to 1000"),
    (AutomaticScaling, {"max_instances": 0}, "max_instances is 0"),
    (AutomaticScaling, {"min_instances": 5, "max_instances": 2}, "at most max_instances, which is 2"),
    (AutomaticScaling, {"max_concurrent_requests": 1001}, "from 1 to 1000"),
    (BasicScaling, {"max_instances": 0}, "max_instances is 0"),
    (BasicScaling, {"max_instances": 1, "idle_timeout": "soon"}, "idle_timeout is 'soon', but must be such as 90s"),
    (ManualScaling, {"instances": 0}, "instances is 0"),
    (ManualScaling, {"instances": True}, "instances is True"),
    (Queue, {"name": "my_queue"}, "queue name is 'my_queue'"),
    (Queue, {"rate": "fast"}, "queue rate is 'fast'"),
    (Queue, {"rate": "501/s"}, "at most 500/s"),
    (Queue, {"bucket_size": 501}, "bucket_size is 501, but must be a number from 1 to 500"),
    (Queue, {"min_backoff_seconds": 10, "max_backoff_seconds": 5}, "max_backoff_seconds is 5"),
]


@pytest.mark.parametrize(("kind", "values", "message"), LIMITS, ids=[message for *_, message in LIMITS])
def test_numbers_beyond_a_limit_are_refused(kind, values, message):
    with pytest.raises(VariableError) as error:
        kind(**values)

    assert message in str(error.value)
