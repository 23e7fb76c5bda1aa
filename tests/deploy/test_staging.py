"""Staged folders: what is in them, and which apps are turned away."""

import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
import yaml

from deploy.errors import StagingError
from deploy.staging import app_yaml, requirements
from deploy.staging.assembly import stage
from deploy.staging.inspection import MAX_FILE_BYTES, Staged, inspect
from deploy.staging.templates import render
from deploy.staging.variables import Variables

SAMPLES = Path(__file__).parent.parent.parent / "samples"
WHEEL = "gae_deferred-0.1.0-py3-none-any.whl"
VARIABLES = Variables(signing_keys_secret="projects/p/secrets/keys", environment={"DJANGO_SECRET_KEY": "x"})

FOR_DEVELOPERS = {
    *(".gcloudignore", "README.md", "conftest.py", "manage.py", "pytest.ini", "requirements-dev.txt", "test_main.py")
}


@pytest.fixture(scope="module", params=["flask", "django", "wsgi"])
def sample(request, tmp_path_factory) -> tuple[str, Staged]:
    """Return a sample's name, and the sample staged as a developer's folder would be: with all that developers have."""
    copy = tmp_path_factory.mktemp("app") / request.param
    shutil.copytree(SAMPLES / request.param, copy)
    for name in (".venv/pyvenv.cfg", ".local-cloud/signing-key", "__pycache__/main.pyc", ".env", "tests/test_a.py"):
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).touch()
    return request.param, stage(copy, tmp_path_factory.mktemp("staged"), VARIABLES)


def test_what_is_uploaded_is_the_app_and_nothing_of_its_developer(sample):
    name, staged = sample

    listed = subprocess.run(["git", "ls-files"], cwd=SAMPLES / name, capture_output=True, text=True, check=True)
    assert set(staged.files) == set(listed.stdout.split()) - FOR_DEVELOPERS | {WHEEL}


@pytest.mark.skipif(not shutil.which("gcloud"), reason="gcloud is not installed: what it uploads is unchecked")
def test_gcloud_would_upload_the_same_files(sample):
    _, staged = sample

    command = ["gcloud", "meta", "list-files-for-upload", str(staged.folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)

    assert sorted(done.stdout.split()) == list(staged.files)


def test_nothing_in_a_sample_itself_has_changed(sample):
    name, staged = sample

    for path in staged.files:
        if path not in ("app.yaml", "requirements.txt", WHEEL):
            assert (staged.folder / path).read_bytes() == (SAMPLES / name / path).read_bytes()


def test_requirements_say_for_each_package_which_version_and_which_bytes(sample):
    name, staged = sample
    lines = [line for line in staged.requirements.replace("\\\n", " ").splitlines() if not line.startswith("#")]

    assert all(re.fullmatch(r"(\./)?[\w.\[\]-]+(==[\w.]+)?( +--hash=sha256:[0-9a-f]{64})+ *", line) for line in lines)
    packages = requirements.names(staged.requirements)
    assert {"gunicorn", "google-cloud-tasks", "google-cloud-ndb", "grpcio", "cloudpickle", WHEEL} <= packages
    assert {"flask": "werkzeug", "django": "asgiref", "wsgi": "grpcio"}[name] in packages
    assert not packages & {"aiohttp", "pytest", "gae-deferred"}, "what only developers need"


def test_the_wheel_is_the_library_without_its_tests_or_settings_of_this_machine(sample):
    _, staged = sample

    names = zipfile.ZipFile(staged.folder / WHEEL).namelist()

    assert "gae_deferred/deferred.py" in names
    assert all(name.startswith(("gae_deferred/", "gae_deferred-0.1.0.dist-info/")) for name in names)


def test_requirements_change_when_only_the_code_of_the_library_changes(sample, tmp_path):
    _, staged = sample
    other = tmp_path / WHEEL
    shutil.copy(staged.folder / WHEEL, other)
    with zipfile.ZipFile(other, "a") as archive:
        archive.writestr("gae_deferred/news.py", "")

    changed = requirements.pin(SAMPLES / sample[0] / "requirements.txt", tmp_path, "python313")

    assert changed != staged.requirements


def test_app_yaml_names_what_the_project_has(sample):
    _, staged = sample

    assert staged.settings["env_variables"] == {
        "DEFERRED_SIGNING_KEYS_SECRET": "projects/p/secrets/keys",
        "DJANGO_SECRET_KEY": "x",
    }


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """Return the folder of a small app."""
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "main.py").write_text("from views import app\n")
    (folder / "views.py").write_text("def app(environ, start_response):\n    pass\n")
    return folder


PINNED = f"./{WHEEL} \\\n    --hash=sha256:0\ngunicorn==27.0.0 \\\n    --hash=sha256:0\n"


def look_at(app: Path, *left_behind: str, pinned: str = PINNED, **settings: object) -> str:
    """Return what an inspection says of an app, of which some files were left behind; ``""`` if it is well."""
    (app / WHEEL).touch()
    files = tuple(sorted(path.relative_to(app).as_posix() for path in app.rglob("*") if path.is_file()))
    kept = tuple(name for name in files if name not in left_behind)
    settings = {"entrypoint": "gunicorn --bind :$PORT main:app"} | settings
    try:
        inspect(Staged(app, kept, pinned, settings), app)
    except StagingError as error:
        return str(error)
    return ""


def test_an_app_that_is_complete_is_taken(app):
    assert look_at(app) == ""


FAULTS = {
    "there is no website/wsgi.py": {"entrypoint": "gunicorn website.wsgi:app"},
    "main.py defines no application": {"entrypoint": "gunicorn main:application"},
    "is no command": {"entrypoint": "gunicorn 'main:app"},
    "app.yaml names static, which is not there": {"handlers": [{"url": "/static", "static_dir": "static"}]},
    "requirements.txt does not name": {"pinned": PINNED.partition("gunicorn")[0]},
    "requirements.txt names no wheel": {"pinned": "gunicorn==27.0.0 --hash=sha256:0\n"},
}


@pytest.mark.parametrize(("problem", "fault"), FAULTS.items(), ids=list(FAULTS))
def test_what_would_not_run_is_named(app, problem, fault):
    assert problem in look_at(app, **fault)


@pytest.mark.parametrize(
    ("left_behind", "problem"),
    [
        ("views.py", "main.py imports views, which .gcloudignore leaves behind"),
        ("main.py", "there is no main.py"),
        (WHEEL, "must not name *.whl"),
    ],
)
def test_a_file_that_is_ignored_but_needed_is_named(app, left_behind, problem):
    assert problem in look_at(app, left_behind)


@pytest.mark.parametrize(
    "name", ["tests/helper.py", "test_main.py", ".local-cloud/key", ".venv/pyvenv.cfg", ".env", ".git/HEAD"]
)
def test_a_file_that_should_stay_at_home_is_named(app, name):
    (app / name).parent.mkdir(exist_ok=True)
    (app / name).touch()

    assert f"{name} should stay on your machine" in look_at(app)


def test_a_file_that_is_too_big_is_named(app):
    with (app / "model.bin").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)

    assert f"model.bin has {MAX_FILE_BYTES + 1} bytes, and App Engine takes {MAX_FILE_BYTES}" in look_at(app)


def test_too_many_files_are_counted(app):
    for number in range(10_000):
        (app / f"{number}.txt").touch()

    assert "it has 10003 files, and App Engine takes 10000" in look_at(app)


def test_all_that_is_wrong_is_told_at_once(app):
    assert look_at(app, "views.py", entrypoint="gunicorn main:other").count("\n- ") == 2


def test_code_that_is_no_python_is_named_with_its_line(app):
    (app / "views.py").write_text("app = 1\ndef\n")

    assert "views.py, line 2" in look_at(app)


def test_a_cron_yaml_of_the_apps_own_is_not_replaced(tmp_path):
    app = tmp_path / "app"
    shutil.copytree(SAMPLES / "wsgi", app)
    (app / "cron.yaml").write_text("cron: []\n")

    staged = stage(app, tmp_path / "staged", Variables(), ("cron.yaml", "queue.yaml"))

    assert (staged.folder / "cron.yaml").read_text() == "cron: []\n"
    assert (staged.folder / "queue.yaml").read_text() == render("queue.yaml", Variables())


def test_a_folder_that_is_no_app_is_turned_away(tmp_path):
    with pytest.raises(StagingError, match=r"has no requirements\.txt"):
        stage(tmp_path, tmp_path / "staged", Variables())


def test_a_folder_that_has_something_in_it_is_not_overwritten(tmp_path):
    (tmp_path / "precious").touch()

    with pytest.raises(StagingError, match="is not empty"):
        stage(SAMPLES / "wsgi", tmp_path, Variables())


def test_an_app_that_does_not_require_the_library_is_turned_away(tmp_path):
    wanted = tmp_path / "requirements.txt"
    wanted.write_text("# gae-deferred\ngunicorn\n")

    with pytest.raises(StagingError, match="does not name gae-deferred"):
        requirements.pin(wanted, tmp_path, "python313")


def test_an_app_that_moves_with_the_dropin_brings_it_and_the_library(app, tmp_path):
    (app / "requirements.txt").write_text("gunicorn==27.*\ngae_deferred.dropin  # and with it the library\n")

    staged = stage(app, tmp_path / "staged", VARIABLES)

    dropin = WHEEL.replace("gae_deferred", "gae_deferred_dropin")
    assert {WHEEL, dropin} <= set(staged.files) & requirements.names(staged.requirements)
    assert "google/appengine/ext/deferred/__init__.py" in zipfile.ZipFile(staged.folder / dropin).namelist()


def test_versions_that_do_not_go_together_are_an_error_with_the_reason(tmp_path, sample):
    wanted = tmp_path / "requirements.txt"
    wanted.write_text("gae-deferred\ngunicorn<1\ngunicorn>20\n")

    with pytest.raises(StagingError, match="gunicorn"):
        requirements.pin(wanted, sample[1].folder, "python313")


def test_where_only_pip_is_set_up_for_the_registry_the_error_says_so(tmp_path, sample, monkeypatch):
    wanted = tmp_path / "requirements.txt"
    wanted.write_text("gae-deferred\na-package-of-nobody\n")
    for name, value in (("UV_DEFAULT_INDEX", "http://127.0.0.1:9/"), ("UV_HTTP_RETRIES", "0"), ("UV_NO_CACHE", "1")):
        monkeypatch.setenv(name, value)  # nothing listens there

    with pytest.raises(StagingError, match="uv does not read pip's settings"):
        requirements.pin(wanted, sample[1].folder, "python313")


class TestOwnAppYaml:
    """An app.yaml that the app's author has written."""

    @pytest.fixture
    def own(self, tmp_path: Path) -> Path:
        path = tmp_path / "app.yaml"
        path.write_text(render("app.yaml", Variables()) + "\nmain: mine\n")
        return path

    def test_one_that_nobody_has_changed_is_rendered_anew(self, own):
        own.write_text(render("app.yaml", Variables()))

        assert "instance_class: F4" in app_yaml.choose(own.parent, Variables(instance_class="F4"))

    def test_one_that_is_missing_is_rendered(self, own):
        own.unlink()

        assert app_yaml.choose(own.parent, Variables()) == render("app.yaml", Variables())

    def test_it_is_deployed_as_it_is(self, own):
        assert app_yaml.choose(own.parent, Variables()) == own.read_text()

    @pytest.mark.parametrize(
        ("variables", "line"),
        [
            ({"instance_class": "F2"}, "instance_class: F2"),
            ({"service": "api"}, "service: api"),
            ({"signing_keys_secret": "projects/p/secrets/k"}, "DEFERRED_SIGNING_KEYS_SECRET: projects/p/secrets/k"),
            ({"service_account": "a@p.iam.gserviceaccount.com"}, "service_account: a@p.iam.gserviceaccount.com"),
        ],
    )
    def test_what_it_should_say_and_does_not_is_named(self, own, variables, line):
        with pytest.raises(StagingError, match=re.escape(line)):
            app_yaml.choose(own.parent, Variables(**variables))

    def test_what_it_says_as_well_is_taken(self, own):
        own.write_text(own.read_text() + yaml.safe_dump({"env_variables": {"A": "1", "B": "2"}, "service": "api"}))

        assert app_yaml.choose(own.parent, Variables(service="api", environment={"A": "1"})) == own.read_text()

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("a: [", "is not YAML"),
            ("runtime: python313\n", "has no entrypoint"),
            ("entrypoint: ''", "has no entrypoint"),
        ],
    )
    def test_what_cannot_be_deployed_is_turned_away(self, own, text, problem):
        own.write_text(text)

        with pytest.raises(StagingError, match=problem):
            app_yaml.choose(own.parent, Variables())
