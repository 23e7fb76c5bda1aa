"""Staged folders: their content, and the apps that are refused."""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from deploy.errors import StagingError
from deploy.staging import app_yaml, requirements
from deploy.staging.assembly import stage
from deploy.staging.ignored import is_data_export
from deploy.staging.inspection import MAX_FILE_BYTES, Staged, inspect
from deploy.staging.templates import render
from deploy.staging.variables import Variables

SAMPLES = Path(__file__).parent.parent.parent / "samples"
WHEEL = "gae_deferred-0.1.0-py3-none-any.whl"
VARIABLES = Variables(signing_keys_secret="projects/p/secrets/keys", environment={"DJANGO_SECRET_KEY": "x"})

FOR_DEVELOPERS = {
    *(".gcloudignore", "README.md", "conftest.py", "manage.py", "pytest.ini", "requirements-dev.txt"),
    *("test_main.py", "test_views.py"),
}


@pytest.fixture(scope="module", params=["flask", "django", "wsgi"])
def sample(request, tmp_path_factory) -> tuple[str, Staged]:
    """Return a sample's name, and the sample staged from a folder with the usual files of a developer."""
    copy = tmp_path_factory.mktemp("app") / request.param
    shutil.copytree(SAMPLES / request.param, copy)
    for name in (".venv/pyvenv.cfg", ".local-cloud/signing-key", "__pycache__/main.pyc", ".env", "tests/test_a.py"):
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).touch()
    return request.param, stage(copy, tmp_path_factory.mktemp("staged"), VARIABLES)


def test_the_app_is_uploaded_without_the_files_of_its_developer(sample):
    name, staged = sample

    listed = subprocess.run(["git", "ls-files"], cwd=SAMPLES / name, capture_output=True, text=True, check=True)
    assert set(staged.files) == set(listed.stdout.split()) - FOR_DEVELOPERS | {WHEEL}


@pytest.mark.skipif(not shutil.which("gcloud"), reason="gcloud is not installed: what it uploads is unchecked")
def test_gcloud_would_upload_the_same_files(sample):
    _, staged = sample

    command = ["gcloud", "meta", "list-files-for-upload", str(staged.folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)

    assert sorted(done.stdout.split()) == list(staged.files)


def test_the_files_of_a_sample_are_staged_unchanged(sample):
    name, staged = sample

    for path in staged.files:
        if path not in ("app.yaml", "requirements.txt", WHEEL):
            assert (staged.folder / path).read_bytes() == (SAMPLES / name / path).read_bytes()


def test_requirements_have_a_version_and_hashes_for_each_package(sample):
    name, staged = sample
    lines = [line for line in staged.requirements.replace("\\\n", " ").splitlines() if not line.startswith("#")]

    assert all(re.fullmatch(r"(\./)?[\w.\[\]-]+(==[\w.]+)?( +--hash=sha256:[0-9a-f]{64})+ *", line) for line in lines)
    packages = requirements.names(staged.requirements)
    assert {"gunicorn", "google-cloud-tasks", "google-cloud-ndb", "grpcio", "cloudpickle", WHEEL} <= packages
    assert {"flask": "werkzeug", "django": "asgiref", "wsgi": "grpcio"}[name] in packages
    assert not packages & {"aiohttp", "pytest", "gae-deferred"}, "packages for developers"


def test_the_wheel_has_the_library_alone(sample):
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


def test_app_yaml_names_the_resources_of_the_project(sample):
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


def inspection_of(app: Path, *left_behind: str, pinned: str = PINNED, **settings: object) -> str:
    """Return the error of an inspection of an app without some of its files; ``""`` if there is none."""
    (app / WHEEL).touch()
    files = tuple(sorted(path.relative_to(app).as_posix() for path in app.rglob("*") if path.is_file()))
    kept = tuple(name for name in files if name not in left_behind)
    settings = {"entrypoint": "gunicorn --bind :$PORT main:app"} | settings
    try:
        inspect(Staged(app, kept, pinned, settings), app)
    except StagingError as error:
        return str(error)
    return ""


def test_a_complete_app_is_accepted(app):
    assert inspection_of(app) == ""


FAULTS = {
    "there is no website/wsgi.py": {"entrypoint": "gunicorn website.wsgi:app"},
    "main.py defines no application": {"entrypoint": "gunicorn main:application"},
    "is no command": {"entrypoint": "gunicorn 'main:app"},
    "app.yaml names static, which is not there": {"handlers": [{"url": "/static", "static_dir": "static"}]},
    "requirements.txt does not name": {"pinned": PINNED.partition("gunicorn")[0]},
    "requirements.txt names no wheel": {"pinned": "gunicorn==27.0.0 --hash=sha256:0\n"},
}


@pytest.mark.parametrize(("problem", "fault"), FAULTS.items(), ids=list(FAULTS))
def test_a_fault_that_would_stop_the_app_is_named(app, problem, fault):
    assert problem in inspection_of(app, **fault)


@pytest.mark.parametrize(
    ("left_behind", "problem"),
    [
        ("views.py", "main.py imports views, which .gcloudignore leaves behind"),
        ("main.py", "there is no main.py"),
        (WHEEL, "must not name *.whl"),
    ],
)
def test_a_file_that_is_ignored_but_needed_is_named(app, left_behind, problem):
    assert problem in inspection_of(app, left_behind)


@pytest.mark.parametrize(
    "name", ["tests/helper.py", "test_main.py", ".local-cloud/key", ".venv/pyvenv.cfg", ".env", ".git/HEAD"]
)
def test_a_file_that_should_not_be_uploaded_is_named(app, name):
    (app / name).parent.mkdir(exist_ok=True)
    (app / name).touch()

    assert f"{name} should stay on your machine" in inspection_of(app)


def test_a_file_that_is_too_big_is_named(app):
    with (app / "model.bin").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)

    assert f"model.bin has {MAX_FILE_BYTES + 1} bytes, and App Engine takes {MAX_FILE_BYTES}" in inspection_of(app)


def test_too_many_files_are_counted(app):
    for number in range(10_000):
        (app / f"{number}.txt").touch()

    assert "it has 10003 files, and App Engine takes 10000" in inspection_of(app)


def test_all_problems_are_reported_at_once(app):
    assert inspection_of(app, "views.py", entrypoint="gunicorn main:other").count("\n- ") == 2


def test_a_syntax_error_is_reported_with_its_line(app):
    (app / "views.py").write_text("app = 1\ndef\n")

    assert "views.py, line 2" in inspection_of(app)


def test_the_own_files_of_an_app_are_completed_in_the_staged_folder_alone(tmp_path):
    app = tmp_path / "app"
    shutil.copytree(SAMPLES / "wsgi", app)
    (app / "cron.yaml").write_text("cron:\n- url: /own\n  schedule: every 5 minutes\n")
    export = export_data(tmp_path)
    shutil.copy(export, app / "data.jsonl")
    (app / "fixture.json").write_text('{"key": {"path": "not an entity"}}\n')

    staged = stage(app, tmp_path / "staged", Variables(), ("cron.yaml", "queue.yaml"))

    jobs = yaml.safe_load((staged.folder / "cron.yaml").read_text())["cron"]
    assert [job["url"] for job in jobs] == ["/own", "/_ah/deferred/sweep"]
    assert (app / "cron.yaml").read_text() == "cron:\n- url: /own\n  schedule: every 5 minutes\n"
    assert (staged.folder / "queue.yaml").read_text() == render("queue.yaml", Variables())
    assert "data.jsonl" not in staged.files
    assert not (staged.folder / "data.jsonl").exists()
    assert "fixture.json" in staged.files
    assert staged.notes == (
        "left out data.jsonl, an export of local data",
        "added the sweep of gae-deferred to the jobs of your cron.yaml",
    )


ENTITY = {"key": {"partitionId": {"projectId": "p"}, "path": [{"kind": "K", "name": "n"}]}, "properties": {}}


def export_data(folder: Path) -> Path:
    """Return a file made by `gae-deferred data export`."""
    command = [str(Path(sys.executable).with_name("gae-deferred")), "data"]
    place = ["--data-dir", str(folder / "data")]
    (folder / "import.jsonl").write_text(json.dumps(ENTITY) + "\n")
    subprocess.run([*command, "import", str(folder / "import.jsonl"), *place], check=True, timeout=60)
    subprocess.run([*command, "export", str(folder / "export.jsonl"), *place], check=True, timeout=60)
    return folder / "export.jsonl"


@pytest.mark.parametrize("text", ["", "{", '{"key": {', '{"key": {}}', '{"key": {"path": []}}', "\0" * 100])
def test_other_files_are_no_exports(tmp_path, text):
    (tmp_path / "file").write_text(text)

    assert not is_data_export(tmp_path / "file")


def test_a_folder_without_an_app_is_refused(tmp_path):
    with pytest.raises(StagingError, match=r"has no requirements\.txt"):
        stage(tmp_path, tmp_path / "staged", Variables())


def test_a_folder_with_files_is_not_overwritten(tmp_path):
    (tmp_path / "precious").touch()

    with pytest.raises(StagingError, match="is not empty"):
        stage(SAMPLES / "wsgi", tmp_path, Variables())


def test_an_app_that_does_not_require_the_library_is_refused(tmp_path):
    wanted = tmp_path / "requirements.txt"
    wanted.write_text("# gae-deferred\ngunicorn\n")

    with pytest.raises(StagingError, match="does not name gae-deferred"):
        requirements.pin(wanted, tmp_path, "python313")


def test_an_app_that_requires_the_dropin_gets_both_wheels(app, tmp_path):
    (app / "requirements.txt").write_text("gunicorn==27.*\ngae_deferred.dropin  # and with it the library\n")

    staged = stage(app, tmp_path / "staged", VARIABLES)

    dropin = WHEEL.replace("gae_deferred", "gae_deferred_dropin")
    assert {WHEEL, dropin} <= set(staged.files) & requirements.names(staged.requirements)
    assert "google/appengine/ext/deferred/__init__.py" in zipfile.ZipFile(staged.folder / dropin).namelist()


BOTH = "both install the package google.appengine: remove one"


def test_the_dropin_beside_the_bundled_sdk_is_refused(app, tmp_path):
    (app / "requirements.txt").write_text("gunicorn==27.*\ngae-deferred-dropin\nappengine_python_standard==1.*\n")

    with pytest.raises(StagingError, match=rf"requirements\.txt: .*{BOTH}"):
        stage(app, tmp_path / "staged", VARIABLES)


WITH_DROPIN = PINNED + f"./{WHEEL.replace('gae_deferred', 'gae_deferred_dropin')} \\\n    --hash=sha256:0\n"


def test_the_dropin_beside_a_package_that_requires_the_bundled_sdk_is_refused(app):
    sdk = "appengine-python-standard==1.1.0 \\\n    --hash=sha256:0\n"

    assert BOTH in inspection_of(app, pinned=WITH_DROPIN + sdk)
    assert inspection_of(app, pinned=PINNED + sdk) == ""


def test_app_engine_apis_beside_the_dropin_are_refused(app):
    assert "app_engine_apis: true" in inspection_of(app, pinned=WITH_DROPIN, app_engine_apis=True)
    assert inspection_of(app, pinned=WITH_DROPIN, app_engine_apis=False) == ""
    assert inspection_of(app, app_engine_apis=True) == ""


def test_a_gunicorn_that_lets_clients_forge_headers_is_refused(app):
    (app / "gunicorn.conf.py").write_text('header_map = "dangerous"\n')

    assert "gunicorn.conf.py sets gunicorn's header_map to 'dangerous'" in inspection_of(app)


def test_conflicting_requirements_are_an_error_with_the_reason(tmp_path, sample):
    wanted = tmp_path / "requirements.txt"
    wanted.write_text("gae-deferred\ngunicorn<1\ngunicorn>20\n")

    with pytest.raises(StagingError, match="gunicorn"):
        requirements.pin(wanted, sample[1].folder, "python313")


def test_a_registry_that_only_pip_knows_is_explained(tmp_path, sample, monkeypatch):
    wanted = tmp_path / "requirements.txt"
    wanted.write_text("gae-deferred\na-package-of-nobody\n")
    for name, value in (("UV_DEFAULT_INDEX", "http://127.0.0.1:9/"), ("UV_HTTP_RETRIES", "0"), ("UV_NO_CACHE", "1")):
        monkeypatch.setenv(name, value)  # nothing listens on this port

    with pytest.raises(StagingError, match="uv does not read pip's settings"):
        requirements.pin(wanted, sample[1].folder, "python313")


class TestOwnAppYaml:
    """An app.yaml of the author's own."""

    @pytest.fixture
    def own(self, tmp_path: Path) -> Path:
        path = tmp_path / "app.yaml"
        path.write_text(render("app.yaml", Variables()) + "\nmain: mine\n")
        return path

    def test_an_unchanged_one_is_rendered_anew(self, own):
        own.write_text(render("app.yaml", Variables()))

        assert "instance_class: F4" in app_yaml.choose(own.parent, Variables(instance_class="F4"))

    def test_a_missing_one_is_rendered(self, own):
        own.unlink()

        assert app_yaml.choose(own.parent, Variables()) == render("app.yaml", Variables())

    def test_a_changed_one_is_deployed_as_it_is(self, own):
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
    def test_a_missing_setting_is_named(self, own, variables, line):
        with pytest.raises(StagingError, match=re.escape(line)):
            app_yaml.choose(own.parent, Variables(**variables))

    def test_additional_settings_are_accepted(self, own):
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
    def test_one_that_cannot_be_deployed_is_refused(self, own, text, problem):
        own.write_text(text)

        with pytest.raises(StagingError, match=problem):
            app_yaml.choose(own.parent, Variables())
