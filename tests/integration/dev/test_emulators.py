"""``gae-deferred emulators``: the local cloud without an app."""

import datetime
import json
import os
import random
import re
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address
from pathlib import Path
from threading import Thread

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gae_local_cloud.cli import main
from gae_local_cloud.client_code import LANGUAGES, client_code
from tests.integration.datastore.wire import Mutation, Stub, refused

from .commands import FREE_PORTS, Command, get, run_here, running, until


def test_it_prints_export_lines_and_ready_answers_on_the_rest_port_and_stops_cleanly(tmp_path):
    with running("emulators", "--ephemeral", *FREE_PORTS, cwd=tmp_path, GOOGLE_CLOUD_PROJECT="my-project") as command:
        command.wait_for(r"(?m)^ready$")
        exports = dict(re.findall(r"(?m)^export (\w+)=(.*)$", command.output))
        assert exports["GOOGLE_CLOUD_PROJECT"] == "my-project"
        assert exports["DEFERRED_LOCATION"] == "us-central1"
        assert re.fullmatch(r"127\.0\.0\.1:\d+", exports["CLOUD_TASKS_EMULATOR_HOST"])
        assert re.fullmatch(r"127\.0\.0\.1:\d+", exports["DATASTORE_EMULATOR_HOST"])
        http = re.search(r"http://(127\.0\.0\.1:\d+), data in memory", command.output)[1]
        assert exports["DATASTORE_HOST"] == f"http://{http}"
        assert exports["DATASTORE_EMULATOR_HOST_PATH"] == f"{http}/datastore"
        assert exports["DATASTORE_DATASET"] == exports["DATASTORE_PROJECT_ID"] == "my-project"
        assert f"# export DATASTORE_EMULATOR_HOST={http}\n" in command.output
        assert get(f"http://{http}/") == (200, "Ok\n")
        rest = re.search(r"http://127\.0\.0\.1:\d+", command.output)[0]
        assert get(f"{rest}/")[0] == 200
        os.kill(command.process.pid, signal.SIGTERM)
        assert command.wait() == 0
        assert "Traceback" not in command.output


def test_datastore_over_http_takes_the_next_port_if_it_is_free_and_shuts_the_local_cloud_down(tmp_path):
    port = _port_between_free_ones()
    ports = (*FREE_PORTS[:4], "--datastore-port", str(port))
    with running("emulators", "--ephemeral", *ports, cwd=tmp_path) as first:
        first.wait_for(r"(?m)^ready$")
        http = re.search(r"DATASTORE_HOST=(\S+)", first.output)[1]
        with running(
            "emulators", "--ephemeral", *FREE_PORTS[:4], "--datastore-port", str(port - 1), cwd=tmp_path
        ) as other:
            other.wait_for(r"(?m)^ready$")
            assert f"127.0.0.1:{port}," not in other.output, "the port of the other's gRPC is taken"
        assert http.endswith(f":{port + 1}") or not _is_free(port + 1)
        assert urllib.request.urlopen(f"{http}/shutdown", data=b"", timeout=10).status == 200
        assert first.wait() == 0
        assert "Traceback" not in first.output


def _port_between_free_ones() -> int:
    """Return a port that is free and has free neighbours, below those that systems give to outgoing connections."""
    while True:
        port = random.randrange(20_000, 32_000)  # noqa: S311  # not secret
        if all(map(_is_free, (port - 1, port, port + 1))):
            return port


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder that a local cloud has left."""
    folder = tmp_path_factory.mktemp("kept")
    with running("emulators", "--data-dir", "data", *FREE_PORTS, cwd=folder) as command:
        command.wait_for(r"(?m)^ready$")
        os.kill(command.process.pid, signal.SIGTERM)
        assert command.wait() == 0
    return folder / "data"


@pytest.mark.parametrize("name", ["cloud-tasks.sqlite3", "datastore.sqlite3"])
def test_a_damaged_file_in_the_data_folder_is_one_message(tmp_path, kept, name):
    path = shutil.copytree(kept, tmp_path / "data") / name
    path.write_bytes(path.read_bytes()[:4096] + b"\xa5" * 40_000)
    result = run_here("emulators", "--data-dir", "data", *FREE_PORTS, cwd=tmp_path)
    assert result.exit_code == 1
    assert f"data/{name} is damaged" in result.output


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """A local cloud with many options, for the tests of each: a start takes 1 s."""
    options = [
        *("--concurrency", "optimistic"),
        *("--queue", "mail", "--queue", "slow"),
        *("--oidc-issuer", f"{ISSUER}/"),
        *("--allow-host", "Cloud-Tasks", "--allow-host", "192.168.1.5"),
        "--reuse-queue-names",
        *("--host", "127.0.0.1"),
    ]
    environment = {"GOOGLE_CLOUD_PROJECT": "p", "DEFERRED_LOCATION": "europe-west1"}
    folder = tmp_path_factory.mktemp("chosen")
    with running("emulators", "--ephemeral", *FREE_PORTS, *options, cwd=folder, **environment) as command:
        command.wait_for(r"(?m)^ready$")
        yield command


ISSUER = "http://host.docker.internal:8124"


def test_the_concurrency_mode_is_an_option(chosen):
    stub = Stub(re.search(r"DATASTORE_EMULATOR_HOST=(\S+)", chosen.output)[1], "p")
    transaction = stub.begin()
    stub.get("K", 1, transaction=transaction)
    stub.put(stub.entity("K", 1))
    with refused("ABORTED", "another commit changed K:1"):
        stub.commit(Mutation(upsert=stub.entity("K", 2)), transaction=transaction)
    stub.close()


def test_the_default_queue_and_the_named_queues_exist_at_start(chosen):
    queues = connect(chosen).list_queues(parent="projects/p/locations/europe-west1")
    assert sorted(queue.name.rpartition("/")[2] for queue in queues) == ["default", "mail", "slow"]


@pytest.mark.parametrize("address", ["127.0.0.1:1", "localhost", "127.0.0.1:port"])
def test_another_datastore_that_is_not_there_is_named(tmp_path, address):
    arguments = ("emulators", "--ephemeral", *FREE_PORTS, "--datastore-emulator", address)
    result = run_here(*arguments, cwd=tmp_path)
    assert result.exit_code == 1
    assert result.output == (
        f"Error: No Datastore listens at {address}, the address of --datastore-emulator: start it first\n"
    )


def test_contradicting_and_invalid_options_are_reported(tmp_path):
    for arguments, message in (
        (("--ephemeral", "--data-dir", "x"), "choose one"),
        (("--service", "worker"), "'worker' is not NAME=URL"),
        (("--tasks-port", "70000"), "70000 is not in the range"),
    ):
        result = run_here("emulators", *arguments, cwd=tmp_path)
        assert result.exit_code == 2
        assert message in result.output


@pytest.mark.parametrize("language", LANGUAGES)
def test_printed_code_names_the_address(language):
    arguments = ("--print-clients", language, "--host", "0.0.0.0", "--tasks-port", "12345")
    result = CliRunner().invoke(main, ["emulators", *arguments])
    assert result.exit_code == 0
    assert "127.0.0.1" in result.output
    assert "12345" in result.output
    assert "$" not in result.output


@pytest.mark.parametrize("language", ["node", "go", "java"])
def test_the_page_of_other_languages_shows_the_code_that_is_printed(language):
    page = (REPOSITORY / "docs/how-to/use-the-local-cloud-from-other-languages.md").read_text()
    lines = client_code(language, host="127.0.0.1", port=8123, project="local-dev").splitlines()
    assert [line for line in lines if line not in page and not line.startswith("//")] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--oidc-issuer", "localhost:8124"), "'localhost:8124' is not a URL"),
        (("--allow-host", "cloud-tasks:8124"), "'cloud-tasks:8124' is not a name or an address without a port"),
        (("--print-clients", "python", "--tasks-port", "0"), "needs a --tasks-port other than 0"),
    ],
)
def test_an_invalid_value_is_reported(arguments, message):
    result = CliRunner().invoke(main, ["emulators", *arguments])
    assert result.exit_code == 2
    assert message in result.output


def test_printed_code_connects_the_python_client_without_a_proxy(tmp_path):
    with running("emulators", "--ephemeral", *FREE_PORTS, cwd=tmp_path) as command:
        hint = command.wait_for(r"#   gae-local-cloud (emulators --tasks-port \d+ --print-clients) python")
        command.wait_for(r"(?m)^ready$")
        with running(*hint[1].split(), "python", cwd=tmp_path) as printing:
            assert printing.wait() == 0
        program = f"{printing.output}print(*(q.name for q in client.list_queues(parent={PARENT!r})))"
        proxies = dict.fromkeys(("http_proxy", "https_proxy", "grpc_proxy"), "http://127.0.0.1:1")
        seen = subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, **proxies}, check=True, capture_output=True, text=True
        )
        assert seen.stdout.strip() == f"{PARENT}/queues/default"


def test_the_issuer_of_oidc_tokens_can_be_chosen(chosen):
    assert f"export DEFERRED_OIDC_ISSUER={ISSUER}\n" in chosen.output
    rest = re.search(r"http://127\.0\.0\.1:\d+", chosen.output)[0]
    discovery = json.loads(get(f"{rest}/.well-known/openid-configuration")[1])
    assert (discovery["issuer"], discovery["jwks_uri"]) == (ISSUER, f"{ISSUER}/oauth2/v3/certs")
    for host, status in (("host.docker.internal:8124", 200), ("other:8124", 403)):
        assert get(f"{rest}/", Host=host)[0] == status


def test_servers_are_reached_under_loopback_and_the_allowed_names_alone(chosen):
    rest, datastore = re.findall(r"http://127\.0\.0\.1:\d+", chosen.output)[:2]
    for url in (rest, datastore):
        for host in ("localhost:1", "cloud-tasks:8124", "192.168.1.5:8124"):
            assert get(f"{url}/", Host=host)[0] == 200
        for host in ("cloud-tasks.example:8124", "other:8124", "192.168.1.6:8124", "x.internal"):
            status, text = get(f"{url}/", Host=host)
            assert status == 403
            assert "--allow-host" in text


def test_listening_on_the_network_warns(tmp_path, chosen):
    with running("emulators", "--ephemeral", *FREE_PORTS, "--host", "0.0.0.0", cwd=tmp_path) as command:
        command.wait_for(r"(?m)^ready$")
        assert "asks for no credentials" in command.output
    assert "asks for no credentials" not in chosen.output


@pytest.mark.parametrize("existing", [False, True], ids=["new", "existing"])
def test_only_its_owner_can_read_the_data_folder(tmp_path, kept, existing):
    data = tmp_path / "data"
    if existing:
        shutil.copytree(kept, data)
        for file in data.iterdir():
            file.chmod(0o644)
        data.chmod(0o755)
    umask = os.umask(0)
    try:
        with running("emulators", "--data-dir", "data", *FREE_PORTS, cwd=tmp_path) as command:
            command.wait_for(r"(?m)^ready$")
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in data.iterdir()}
    finally:
        os.umask(umask)
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert {"lock", "signing-key", "cloud-tasks.sqlite3-wal", "datastore.sqlite3-wal"} < modes.keys()
    assert set(modes.values()) == {0o600}


def test_an_empty_signing_key_is_one_message(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "signing-key").touch()
    result = run_here("emulators", "--data-dir", "data", *FREE_PORTS, cwd=tmp_path)
    assert result.exit_code == 1
    assert "data/signing-key. Delete the file" in result.output


def test_queue_names_can_be_reused_at_once(tmp_path, chosen):
    with running("emulators", "--ephemeral", *FREE_PORTS, cwd=tmp_path) as command:
        command.wait_for(r"(?m)^ready$")
        assert recreate_queue(connect(command), f"{PARENT}/queues/default") == "FAILED_PRECONDITION"
    assert recreate_queue(connect(chosen), "projects/p/locations/europe-west1/queues/slow") == ""


def test_ssl_cert_file_names_the_certificate_of_a_self_signed_target(tmp_path, chosen):
    certificate = make_certificate(tmp_path)
    with running("emulators", "--ephemeral", *FREE_PORTS, cwd=tmp_path, SSL_CERT_FILE=str(certificate)) as command:
        command.wait_for(r"(?m)^ready$")
        for running_one, queue, answered in ((command, f"{PARENT}/queues/default", True), (chosen, MAIL, False)):
            with https_target(certificate) as (url, received):
                client = connect(running_one)
                name = f"{queue}/tasks/secure"
                client.create_task(parent=queue, task={"name": name, "http_request": {"url": url}})
                until(lambda client=client, name=name: attempted(client, name), "an attempt")
                assert (received == ["/secure"]) is answered


PARENT = "projects/local-dev/locations/us-central1"
MAIL = "projects/p/locations/europe-west1/queues/mail"
REPOSITORY = Path(__file__).parents[3]


def connect(command):
    import grpc
    from google.cloud import tasks_v2
    from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport

    address = re.search(r"CLOUD_TASKS_EMULATOR_HOST=(\S+)", command.output)[1]
    return tasks_v2.CloudTasksClient(transport=CloudTasksGrpcTransport(channel=grpc.insecure_channel(address)))


def recreate_queue(client, name: str) -> str:
    """Delete a queue and create it again; return the name of the error's code, or ``""``."""
    from google.api_core import exceptions

    client.delete_queue(name=name)
    try:
        client.create_queue(parent=name.partition("/queues/")[0], queue={"name": name})
    except exceptions.GoogleAPICallError as error:
        return error.grpc_status_code.name
    return ""


def attempted(client, name: str) -> bool:
    """Return whether a task is gone or has failed once."""
    from google.api_core import exceptions

    try:
        return client.get_task(name=name).last_attempt.response_status.code != 0
    except exceptions.NotFound:
        return True


def make_certificate(folder: Path) -> Path:
    """Write a key and a self-signed certificate for 127.0.0.1 to a file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = folder / "certificate.pem"
    file.write_bytes(pem + certificate.public_bytes(serialization.Encoding.PEM))
    return file


@contextmanager
def https_target(certificate: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve HTTPS; yield a URL, and the paths of the requests that arrive."""
    received: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the base class's name
            received.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Print nothing."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"https://127.0.0.1:{server.server_port}/secure", received
        finally:
            server.shutdown()
            thread.join()
