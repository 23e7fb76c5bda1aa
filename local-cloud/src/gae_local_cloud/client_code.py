"""Code to copy, in four languages, that connects Google's clients of Cloud Tasks to the local cloud.

Clients of Datastore read ``DATASTORE_EMULATOR_HOST``. Clients of Cloud Tasks read no such variable: an unchanged client
would call production. So the code names the address, and it keeps the connection from using a proxy.

Tests run the code for Python and Node. In November 2026 the code for Go and Java was compiled with Google's clients, by
hand. Both made a task while the variables of the proxy named a dead address. Go 1.27 had google-cloud-go 0.56 and
grpc-go 1.64; Java 17 had google-cloud-tasks 2.3.12, gax 2.20.1 and grpc-java 1.41.
"""

from string import Template

_PYTHON = """\
# pip install google-cloud-tasks
import grpc
from google.cloud import tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport

channel = grpc.insecure_channel("$host:$port", options=[("grpc.enable_http_proxy", 0)])
client = tasks_v2.CloudTasksClient(transport=CloudTasksGrpcTransport(channel=channel))
"""

_NODE = """\
// npm install @google-cloud/tasks
import {credentials} from '@grpc/grpc-js';
import {v2} from '@google-cloud/tasks';

const client = new v2.CloudTasksClient({
  apiEndpoint: '$host',
  port: $port,
  projectId: '$project',
  sslCreds: credentials.createInsecure(),
  'grpc.enable_http_proxy': 0,
});
"""

_GO = """\
// import (
//     cloudtasks "cloud.google.com/go/cloudtasks/apiv2"
//     "google.golang.org/api/option"
//     "google.golang.org/grpc"
//     "google.golang.org/grpc/credentials/insecure"
// )
conn, err := grpc.NewClient("$host:$port",
	grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
if err != nil {
	log.Fatal(err)
}
client, err := cloudtasks.NewClient(context.Background(), option.WithGRPCConn(conn))
"""

_JAVA = """\
// Maven: com.google.cloud:google-cloud-tasks
// import com.google.api.gax.core.NoCredentialsProvider;
// import com.google.api.gax.grpc.GrpcTransportChannel;
// import com.google.api.gax.rpc.FixedTransportChannelProvider;
// import com.google.cloud.tasks.v2.CloudTasksClient;
// import com.google.cloud.tasks.v2.CloudTasksSettings;
// import io.grpc.ManagedChannel;
// import io.grpc.ManagedChannelBuilder;
ManagedChannel channel = ManagedChannelBuilder.forAddress("$host", $port)
    .usePlaintext()
    .proxyDetector(address -> null)
    .build();
CloudTasksClient client = CloudTasksClient.create(CloudTasksSettings.newBuilder()
    .setTransportChannelProvider(FixedTransportChannelProvider.create(GrpcTransportChannel.create(channel)))
    .setCredentialsProvider(NoCredentialsProvider.create())
    .build());
"""

_TEMPLATES = {"python": _PYTHON, "node": _NODE, "go": _GO, "java": _JAVA}

LANGUAGES = tuple(_TEMPLATES)
"""Languages that :func:`client_code` knows."""


def client_code(language: str, *, host: str, port: int, project: str) -> str:
    """Return code that makes a client of Cloud Tasks.

    Parameters:
        language: one of :data:`LANGUAGES`.
        host, port: address of Cloud Tasks over gRPC.
        project: the client's project.
    """
    return Template(_TEMPLATES[language]).substitute(host=host, port=port, project=project)
