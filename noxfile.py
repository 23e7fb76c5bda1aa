"""Every job of this project, for people and for CI alike: `python3 run.py dev-flask` runs one.

Arguments after a job's name go to the tool behind it, which often has a --help of its own. With nox installed,
`nox -s dev-flask` does the same; put `--` before the arguments there.
"""

import functools
import hashlib
import logging
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["tests"]
nox.options.default_venv_backend = "uv|virtualenv"  # uv where it is installed: it is faster
# uv is optional; hide nox's message, which looks like an error.
logging.getLogger("nox").addFilter(lambda record: record.msg != "uv binary not found.")
nox.options.reuse_venv = "yes"
# tests-versions runs on the Pythons that the machine has, also in CI. It downloads none and names the missing ones.
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False

# Many containers set this. Each of the hundreds of processes of a test run would compile all libraries again, for 2 s.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

ROOT = Path(__file__).parent
SITE = "build/site"
SAMPLES = ("flask", "django", "wsgi")
CLIENT_TESTS = [f"tests/integration/cloud_tasks/{name}.py" for name in ("test_node_client", "test_gcloud")]
"""Tests of clients in other languages and of gcloud, for the session `clients` only."""

TEST_TOOLS = [
    "greenlet~=3.5",  # the simulation's actors take turns
    "hatchling~=1.27",
    "hypothesis~=6.168",
    "pytest~=9.2",
    "pytest-asyncio~=1.5",
    "pytest-timeout~=2.4",
    "pytest-xdist~=3.8",
    "requests~=2.34",
]
IN_PARALLEL = (
    *("--numprocesses", "3", "--dist", "loadfile", "--no-loadscope-reorder"),
    *("--max-worker-restart", "0"),
)
"""Arguments of pytest for tests that wait more than they compute: three processes keep two cores busy.

The tests of a file stay in one process, since they share servers. Files come in the order of their folders, so that no
process is left with the slowest ones at the end. If a process dies, the run ends and names the test: pytest-xdist 3.8
starts another one by default, and then waits for ever. Options after these win: `-n 0` for a debugger.
"""

BROWSER_TOOLS = ["selenium~=4.0"]
UV = "uv==0.13.9"
DEPLOY_TOOLS = ["jinja2~=3.1", "packaging>=24", "rich~=15.0", UV]
INFRA_TOOLS = [
    *["msgpack~=1.1", "python-hcl2==8.1.4", UV],
    # The schemas of the Terraform providers google 6.50.0 and random 3.7.2, the versions in infra/versions.tf.
    *["cdktf-cdktf-provider-google==16.12.1", "cdktf-cdktf-provider-random==12.0.1"],
]
CHECKOV = "checkov==3.3.30"
BUNDLED_SDK = "appengine-python-standard==3.1.0"
BENCH_TOOLS = ["matplotlib~=3.10", "rich~=15.0"]
DOCS_TOOLS = [
    "furo==2025.12.19",
    "myst-parser==5.2.*",
    "sphinx~=9.0",
    "sphinx-autobuild==2025.8.25",
    "sphinx-click~=6.2",
    "sphinx-copybutton~=0.5.2",
    "sphinx-design==0.8.*",
    "sybil~=10.1",  # finds the code blocks of pages, for pytest
]
LINT_TOOLS = ["mypy==2.4.1", "ruff==0.17.6"]
TYPE_STUBS = [
    "grpc-stubs==1.53.*",
    "types-PyYAML==6.0.*",
    "types-google-cloud-ndb==2.4.*",
    "types-gunicorn==26.2.*",
    "types-protobuf==7.35.*",
]


@nox.session(name="dev-flask")
def dev_flask(session: nox.Session) -> None:
    """Serve the counter app in Flask, with the local cloud."""
    dev(session, "flask")


@nox.session(name="dev-django")
def dev_django(session: nox.Session) -> None:
    """Serve the counter app in Django, with the local cloud."""
    dev(session, "django")


@nox.session(name="dev-wsgi")
def dev_wsgi(session: nox.Session) -> None:
    """Serve the counter app without a framework, with the local cloud."""
    dev(session, "wsgi")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests of the library, the local cloud and each sample. Takes pytest's arguments."""
    run_tests(session)


@nox.session(name="tests-versions", python=["3.11", "3.12", "3.13", "3.14"])
def tests_versions(session: nox.Session) -> None:
    """Run the same tests on each supported Python that this machine has."""
    run_tests(session)


@nox.session(name="tests-heavy")
def tests_heavy(session: nox.Session) -> None:
    """Run the tests that take minutes: killed processes, conflicts, fuzzing, a short simulation."""
    install(session, *TEST_TOOLS, *requirements(*SAMPLES))
    parallel = (*IN_PARALLEL, "--dist", "load")
    folders = ("tests/unit", "tests/integration", "tests/simulation")  # the last with few seeds: see simulate
    session.run("pytest", "-m", "heavy", *parallel, *folders, *session.posargs)


@nox.session
def simulate(session: nox.Session) -> None:
    """Let everything fail around the runtime, thousands of times. Takes --seeds N, or --seed K to see one."""
    install(session, *TEST_TOOLS)
    session.run("pytest", "-m", "heavy", "tests/simulation", *(session.posargs or ["--seeds", "2000"]))


@nox.session
def mutants(session: nox.Session) -> None:
    """Plant faults into the runtime and see that tests fail. Takes modules, --all, --servers: --help."""
    install(session, *TEST_TOOLS, "coverage~=7.10", *requirements(*SAMPLES))
    session.run("python", "-m", "tests.mutants", *session.posargs, env={"PYTHONPATH": str(ROOT)})


@nox.session(name="e2e-local")
def e2e_local(session: nox.Session) -> None:
    """Serve each sample and test it over HTTP. Takes pytest's arguments."""
    install(session, *TEST_TOOLS, *requirements(*SAMPLES))
    for sample in SAMPLES:
        session.run("pytest", "tests/e2e", "--serve", f"samples/{sample}", *session.posargs)


@nox.session
def conformance(session: nox.Session) -> None:
    """Compare the local cloud with Google's own emulators. Needs gcloud."""
    running = {"FIRESTORE_CONFORMANCE_HOST", "DATASTORE_CONFORMANCE_HOST"}  # emulators that run already
    if not shutil.which("gcloud") and not running <= os.environ.keys():
        session.error("Google's emulators come with gcloud, which is not installed: https://cloud.google.com/sdk")
    install(session, *TEST_TOOLS)
    session.run("pytest", "tests/conformance", *session.posargs)


@nox.session
def clients(session: nox.Session) -> None:
    """Test the local Cloud Tasks with Google's client for Node, and with gcloud if installed."""
    if not shutil.which("npm"):
        session.error("The client for Node needs Node.js and npm, which are not installed: https://nodejs.org")
    install(session, *TEST_TOOLS)
    with session.chdir("tests/integration/cloud_tasks/node"):
        session.run("npm", "install", "--no-audit", "--no-fund", "--no-package-lock", external=True)
    session.run("pytest", *CLIENT_TESTS, *session.posargs)


@nox.session(name="console-check")
def console_check(session: nox.Session) -> None:
    """Try the local cloud's console in Chromium, and look for barriers with axe-core."""
    for program, package in {"chromium": "chromium", "chromedriver": "chromium-driver", "npm": "npm"}.items():
        if not shutil.which(program):
            session.error(f"The console is tried with {program}, which is not installed: apt install {package}")
    install(session, *TEST_TOOLS, *BROWSER_TOOLS, *requirements("flask"))
    with session.chdir("tests/browser"):
        session.run("npm", "install", "--no-audit", "--no-fund", external=True)
    session.run("pytest", "tests/browser", *session.posargs)
    session.log("Pictures of each page are in tests/browser/screenshots.")


@nox.session
def suites(session: nox.Session) -> None:
    """Run the system tests of Google's Datastore clients. Takes --python-ndb PATH and more: --help."""
    install(session, *TEST_TOOLS, UV)
    with session.chdir(session.invoked_from):  # paths are relative to it
        session.run("python", "-m", "tests.suites", *session.posargs, env={"PYTHONPATH": str(ROOT), **uv_settings()})


@nox.session
def record(session: nox.Session) -> None:
    """Record what Cloud Tasks and Datastore do in a project, for the tests. Takes --project."""
    install(session, *TEST_TOOLS)
    session.run("python", "-m", "tests.recording", *session.posargs, interrupt_timeout=60)  # it cleans up


@nox.session
def bench(session: nox.Session) -> None:
    """Measure this project beside its peers. Takes names of benchmarks, and options: --help."""
    install(session, *BENCH_TOOLS, *requirements(*SAMPLES))
    # Servers have to stop after Ctrl-C.
    session.run("python", "-m", "bench", *session.posargs, interrupt_timeout=30, terminate_timeout=10)


@nox.session(name="bench-pages")
def bench_pages(session: nox.Session) -> None:
    """Draw the plots and write the newest results into the pages. With --check, only compare."""
    install(session, *BENCH_TOOLS)
    session.run("python", "-m", "bench.pages", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site of docs/. Takes --serve; --check, which runs every code block; --links to other sites."""
    install(session, *DOCS_TOOLS, *TEST_TOOLS, *requirements(*SAMPLES))
    options = {"--serve", "--check", "--links"} & set(session.posargs)
    rest = [argument for argument in session.posargs if argument not in options]
    if "--serve" in options:
        session.run("sphinx-autobuild", "docs", SITE, "--watch", "lib/src", *rest)
        return
    if "--links" in options:  # needs the Internet, so it is not part of --check
        session.run("sphinx-build", "--quiet", "--builder", "linkcheck", "docs", f"{SITE}-links", *rest)
        return
    if "--check" not in options:
        session.run("sphinx-build", "--quiet", "docs", SITE)
        session.log(f"Open {SITE}/index.html in a browser.")
        return
    session.run("sphinx-build", "--quiet", "--fresh-env", "--fail-on-warning", "--keep-going", "docs", SITE)
    parallel = [*IN_PARALLEL, "-n", "4", "--loadscope-reorder"]  # pages mostly wait; long ones begin first
    session.run("pytest", "-p", "tests.docs.blocks", *(rest or [*parallel, "tests/docs", "docs", "README.md"]))


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, types and the format of Terraform files. Changes nothing."""
    install(session, *LINT_TOOLS, *TYPE_STUBS, *TEST_TOOLS, *DEPLOY_TOOLS)  # mypy reads the pytest plugin too
    check_samples_alike(session)
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("mypy", "lib/src")
    session.run("mypy", "local-cloud/src")
    session.run("mypy", "deploy")
    dropin = ["--namespace-packages", "--explicit-package-bases", "lib/dropin/src"]  # `google` is a shared namespace
    session.run("mypy", *dropin, env={"MYPYPATH": "lib/dropin/src"})
    if any(ROOT.glob("infra/**/*.tf")):
        if shutil.which("terraform"):
            session.run("terraform", "fmt", "-check", "-diff", "-recursive", "infra", external=True)
        else:
            session.warn("Terraform is not installed: the format of infra/ was not checked.")


@nox.session(name="rehearse-flask")
def rehearse_flask(session: nox.Session) -> None:
    """Run the Flask sample here as App Engine would, and test it. Options: --help."""
    deploy(session, "rehearse", "flask")


@nox.session(name="rehearse-django")
def rehearse_django(session: nox.Session) -> None:
    """Run the Django sample here as App Engine would, and test it."""
    deploy(session, "rehearse", "django", "--random-env", "DJANGO_SECRET_KEY")


@nox.session(name="rehearse-wsgi")
def rehearse_wsgi(session: nox.Session) -> None:
    """Run the sample without a framework here as App Engine would, and test it."""
    deploy(session, "rehearse", "wsgi")


@nox.session(name="deploy-flask")
def deploy_flask(session: nox.Session) -> None:
    """Deploy the Flask sample to App Engine. Takes --project, and options: --help."""
    deploy(session, "deploy", "flask")


@nox.session(name="deploy-django")
def deploy_django(session: nox.Session) -> None:
    """Deploy the Django sample, with the DJANGO_SECRET_KEY of your environment."""
    deploy(session, "deploy", "django", "--env", "DJANGO_SECRET_KEY")


@nox.session(name="deploy-wsgi")
def deploy_wsgi(session: nox.Session) -> None:
    """Deploy the sample without a framework."""
    deploy(session, "deploy", "wsgi")


@nox.session(name="e2e-flask")
def e2e_flask(session: nox.Session) -> None:
    """Deploy the Flask sample without traffic, test it there, and remove it. Takes --project."""
    deploy(session, "e2e", "flask")


@nox.session(name="e2e-django")
def e2e_django(session: nox.Session) -> None:
    """Deploy the Django sample without traffic, test it there, and remove it. Takes --project."""
    deploy(session, "e2e", "django", "--random-env", "DJANGO_SECRET_KEY")


@nox.session(name="e2e-wsgi")
def e2e_wsgi(session: nox.Session) -> None:
    """Deploy the sample without a framework, test it there, and remove it. Takes --project."""
    deploy(session, "e2e", "wsgi")


@nox.session(name="e2e-clean-up")
def e2e_clean_up(session: nox.Session) -> None:
    """Remove what an e2e test could not remove. Takes --version, --project."""
    check_early(session, "clean-up")
    install(session, *DEPLOY_TOOLS, *TEST_TOOLS)
    session.run("python", "-m", "deploy", "clean-up", *session.posargs)


@nox.session(name="deploy-check")
def deploy_check(session: nox.Session) -> None:
    """Test deploy/: templates, staging, faults; with gcloud, each of its command lines."""
    install(session, *DEPLOY_TOOLS, *TEST_TOOLS)
    sdk = Path(session.virtualenv.location, "bundled-sdk")  # an environment of its own: it has a package google too
    session.run("uv", "venv", "--quiet", "--allow-existing", str(sdk))
    session.run("uv", "pip", "install", "--quiet", "--python", str(sdk), BUNDLED_SDK)
    session.env["BUNDLED_SDK_PYTHON"] = str(sdk / "bin" / "python")
    session.run("pytest", *(session.posargs or [*IN_PARALLEL, "--dist", "load", "tests/deploy"]))
    if not shutil.which("gcloud"):
        session.warn("gcloud is not installed: its command lines were not checked.")


@nox.session(name="infra-plan")
def infra_plan(session: nox.Session) -> None:
    """Show the resources that Terraform would make in a project. Takes --project."""
    terraform(session, "plan")


@nox.session(name="infra-apply")
def infra_apply(session: nox.Session) -> None:
    """Make the App Engine app, database, queues, accounts and keys. Asks first. Takes --project."""
    terraform(session, "apply")


@nox.session(name="infra-destroy")
def infra_destroy(session: nox.Session) -> None:
    """Remove them. Names the data that will be lost, asks for the project's id. Takes --project."""
    terraform(session, "destroy")


@nox.session(name="infra-rotate-keys")
def infra_rotate_keys(session: nox.Session) -> None:
    """Switch to the next signing key, and make the one after it. Takes --project."""
    terraform(session, "rotate-keys")


@nox.session(name="infra-check")
def infra_check(session: nox.Session) -> None:
    """Check infra/: format, schemas, Terraform's tests, policies. Needs no project."""
    install(session, *TEST_TOOLS, *INFRA_TOOLS)
    checkov = Path(session.virtualenv.location, "checkov")  # an environment of its own: it has a module hcl2 too
    if not (checkov / "bin" / "checkov").exists():
        session.run("uv", "venv", "--quiet", "--allow-existing", str(checkov))
        session.run("uv", "pip", "install", "--quiet", "--python", str(checkov), CHECKOV)
    session.run("pytest", *(session.posargs or ["tests/infra"]))
    scan = ["--directory", "infra", "--framework", "terraform", "--skip-download", "--compact", "--quiet"]
    session.run(str(checkov / "bin" / "checkov"), *scan, external=True)
    if not shutil.which("terraform"):
        session.warn("Terraform is not installed: format, validity and Terraform's own tests were not checked.")
        return
    session.run("terraform", "fmt", "-check", "-diff", "-recursive", "infra", external=True)
    check_with_real_providers(session)


def dev(session: nox.Session, sample: str) -> None:
    """Serve one sample until Ctrl-C."""
    install(session, *requirements(sample))
    # Nox kills a process half a second after Ctrl-C. The local cloud needs longer: it lets running tasks end.
    session.run(
        *["gae-deferred", "dev", "main:app", "--app-dir", f"samples/{sample}", *session.posargs],
        interrupt_timeout=15,
        terminate_timeout=5,
    )


def deploy(session: nox.Session, command: str, sample: str, *arguments: str) -> None:
    """Run a command of deploy/ for a sample, or for the app of the option --app-dir."""
    arguments = (command, "--app-dir", str(ROOT / "samples" / sample), *arguments)
    check_early(session, *arguments)
    install(session, *DEPLOY_TOOLS, *TEST_TOOLS)
    checked = [] if command == "rehearse" else ["--checked"]
    with session.chdir(session.invoked_from):  # --app-dir is relative to it
        session.run(
            *["python", "-m", "deploy", *arguments, *checked, *session.posargs],
            env={"PYTHONPATH": str(ROOT)},
            # After Ctrl-C, deploy/ waits for a deploy that has begun, and removes its version.
            interrupt_timeout=1200,
            terminate_timeout=1200,
        )


def check_early(session: nox.Session, *arguments: str) -> None:
    """Check project, gcloud and secrets of a command of deploy/, before an installation takes half a minute."""
    program = ["python", "-m", "deploy.early_checks", *arguments, *session.posargs]
    session.run(*program, env={"PYTHONPATH": str(ROOT)}, log=False, interrupt_timeout=30)


def terraform(session: nox.Session, command: str) -> None:
    """Run a command of `python -m deploy infra`."""
    session.install("--quiet", "click~=8.1")  # infra needs nothing else
    with session.chdir(session.invoked_from):  # --var-file is relative to it
        session.run(
            *["python", "-m", "deploy", "infra", command, *session.posargs],
            env={"PYTHONPATH": str(ROOT)},
            interrupt_timeout=None,  # a killed Terraform loses track of what it has made
        )


def check_with_real_providers(session: nox.Session) -> None:
    """Let Terraform validate and test infra/ with its providers, if it can download them."""
    env = {"TF_DATA_DIR": str(Path(session.virtualenv.location, "terraform").resolve())}  # infra-plan has another
    run = functools.partial(session.run, "terraform", "-chdir=infra", external=True, env=env)
    try:
        run("init", "-backend=false", "-input=false", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except nox.command.CommandFailed:
        session.warn(
            "Terraform could not download the providers. The tests above used stand-ins that know their schemas."
        )
        return
    run("validate")
    run("test")


def run_tests(session: nox.Session) -> None:
    """Run every test that needs only Python, or those in the paths among the arguments after ``--``."""
    install(session, *TEST_TOOLS, *requirements(*SAMPLES))
    selected: list[str] = []
    if not has_path(session.posargs):
        others = (f"--ignore={file}" for file in CLIENT_TESTS)
        selected = [*IN_PARALLEL, "tests/unit", "tests/integration", "tests/bench", *others]
    session.run("pytest", *selected, *session.posargs)


def has_path(arguments: Sequence[str]) -> bool:
    """Return whether one of pytest's arguments is an existing path, perhaps with ``::`` and a test after it."""
    with_value = ("-k", "-m", "-p", "-c", "-o", "-W", "--ignore", "--deselect", "--rootdir", "--junit-xml")
    files = [
        argument.partition("::")[0]
        for before, argument in zip(("", *arguments), arguments, strict=False)
        if before not in with_value
    ]
    return any(file and (ROOT / file).exists() for file in files)


def check_samples_alike(session: nox.Session) -> None:
    """Make sure that the samples differ only where their frameworks do."""
    alike = (".gcloudignore", "app.yaml", "conftest.py", "counter.py", "gunicorn.conf.py", "pytest.ini")
    for name in (*alike, "requirements-dev.txt"):
        if len({(ROOT / "samples" / sample / name).read_text() for sample in SAMPLES}) > 1:
            session.error(f"samples/*/{name} must be the same file in each sample")


def requirements(*samples: str) -> list[str]:
    """Return pip's arguments for what samples need."""
    return [argument for sample in samples for argument in ("-r", f"samples/{sample}/requirements.txt")]


def install(session: nox.Session, *arguments: str) -> None:
    """Install gae-deferred and gae-local-cloud from this repository, and whatever pip's arguments name.

    pip needs several seconds even if nothing is missing. So an environment remembers its ingredients and is reused
    until they change.
    """
    distributions = [Path("lib/pyproject.toml"), Path("local-cloud/pyproject.toml")]
    files = [*distributions, *(Path(argument) for argument in arguments if argument.endswith(".txt"))]
    ingredients = "\n".join([*arguments, *(file.read_text() for file in files)])
    fingerprint = hashlib.sha256(ingredients.encode()).hexdigest()
    stamp = Path(session.virtualenv.location, "made-from")
    if not stamp.exists() or stamp.read_text() != fingerprint:
        session.install("-e", "local-cloud", "-e", "lib[local]", *arguments, env=uv_settings(), silent=False)
        stamp.write_text(fingerprint)
        session.log("The first start takes some seconds longer: Python compiles the libraries.")


def uv_settings() -> dict[str, str]:
    """Return the variables that run.py hands over for uv."""
    return {name[6:]: value for name, value in os.environ.items() if name.startswith("SETUP_")}
