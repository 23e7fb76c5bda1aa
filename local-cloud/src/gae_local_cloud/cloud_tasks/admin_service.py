"""Locations, access policies and encryption keys. Policies and keys are stored and returned, never enforced."""

import secrets

from google.cloud.location import locations_pb2  # type: ignore[import-untyped]
from google.iam.v1 import iam_policy_pb2, policy_pb2  # type: ignore[import-untyped]

from gae_local_cloud.clock import Clock
from gae_local_cloud.cloud_tasks.errors import Code, ServiceError, invalid, not_found
from gae_local_cloud.cloud_tasks.field_mask import merge_masked
from gae_local_cloud.cloud_tasks.messages import CmekConfig, GetCmekConfigRequest, UpdateCmekConfigRequest
from gae_local_cloud.cloud_tasks.names import location_name, project_name, queue_name
from gae_local_cloud.cloud_tasks.paging import last_item, page_size, page_token
from gae_local_cloud.cloud_tasks.registry import QueueRegistry
from gae_local_cloud.cloud_tasks.store import Store

_MAX_PAGE = 1000

# The regions of App Engine. Other locations exist if they have a queue.
_LOCATIONS = frozenset(
    {
        *("asia-east1", "asia-east2", "asia-northeast1", "asia-northeast2", "asia-northeast3", "asia-south1"),
        *("asia-southeast1", "asia-southeast2", "australia-southeast1", "europe-central2", "europe-west1"),
        *("europe-west2", "europe-west3", "europe-west6", "northamerica-northeast1", "southamerica-east1"),
        *("us-central1", "us-east1", "us-east4", "us-west1", "us-west2", "us-west3", "us-west4"),
    }
)


class AdminService:
    """The methods of ``Locations``, and of ``CloudTasks`` on policies and keys: a message in, a message out."""

    def __init__(self, store: Store, registry: QueueRegistry, clock: Clock) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock

    # Locations

    async def list_locations(self, request: locations_pb2.ListLocationsRequest) -> locations_pb2.ListLocationsResponse:
        project = project_name(request.name, "name")
        size = page_size(request.page_size, _MAX_PAGE)
        now = self._clock.now()
        last = last_item(request.page_token, project, now)
        ids = [id_ for id_ in sorted(_LOCATIONS | self._registry.locations(project)) if id_ > last]
        response = locations_pb2.ListLocationsResponse(locations=[_location(project, id_) for id_ in ids[:size]])
        if len(ids) > size:
            response.next_page_token = page_token(project, ids[size - 1], now)
        return response

    async def get_location(self, request: locations_pb2.GetLocationRequest) -> locations_pb2.Location:
        name = location_name(request.name, "name")
        project, _, id_ = name.partition("/locations/")
        if id_ not in _LOCATIONS | self._registry.locations(project):
            raise not_found(f'Location does not exist: "{name}"')
        return _location(project, id_)

    # Access policies

    async def get_iam_policy(self, request: iam_policy_pb2.GetIamPolicyRequest) -> policy_pb2.Policy:
        return self._policy(self._resource(request.resource))

    async def set_iam_policy(self, request: iam_policy_pb2.SetIamPolicyRequest) -> policy_pb2.Policy:
        name = self._resource(request.resource)
        current = self._policy(name)
        if request.policy.etag and request.policy.etag != current.etag:
            raise ServiceError(
                Code.ABORTED, "There were concurrent policy changes: policy.etag is not that of the current policy"
            )
        policy = policy_pb2.Policy()
        if request.update_mask.paths:
            policy.CopyFrom(current)
        merge_masked(request.policy, policy, request.update_mask, "update_mask")
        policy.etag = secrets.token_bytes(8)
        with self._store.database.atomic() as stored:
            self._store.set_document(f"{name}/iamPolicy", policy.SerializeToString())
        await stored
        return policy

    async def test_iam_permissions(
        self, request: iam_policy_pb2.TestIamPermissionsRequest
    ) -> iam_policy_pb2.TestIamPermissionsResponse:
        """Answer that the caller has every permission, as every caller of a local server has."""
        self._resource(request.resource)
        for permission in request.permissions:
            if "*" in permission:
                raise invalid(f'permissions must not have wildcards, got "{permission}"')
        return iam_policy_pb2.TestIamPermissionsResponse(permissions=request.permissions)

    def _resource(self, resource: str) -> str:
        name = queue_name(resource, "resource")
        self._registry.queue(name)
        return name

    def _policy(self, name: str) -> policy_pb2.Policy:
        document = self._store.document(f"{name}/iamPolicy")
        # Google's services return this etag for a policy that was never set.
        return policy_pb2.Policy(etag=b"\x00\x20\x01") if document is None else policy_pb2.Policy.FromString(document)

    # Encryption keys

    async def get_cmek_config(self, request: GetCmekConfigRequest) -> CmekConfig:
        return self._cmek_config(_cmek_config_name(request.name, "name"))

    async def update_cmek_config(self, request: UpdateCmekConfigRequest) -> CmekConfig:
        name = _cmek_config_name(request.cmek_config.name, "cmek_config.name")
        config = self._cmek_config(name)
        merge_masked(request.cmek_config, config, request.update_mask, "update_mask")
        config.name = name
        with self._store.database.atomic() as stored:
            self._store.set_document(name, config.SerializeToString())
        await stored
        return config

    def _cmek_config(self, name: str) -> CmekConfig:
        document = self._store.document(name)
        return CmekConfig(name=name) if document is None else CmekConfig.FromString(document)


def _cmek_config_name(name: str, field: str) -> str:
    location, _, last = name.rpartition("/")
    location_name(location, field)
    # GetCmekConfigRequest's documentation spells it CmekConfig, CmekConfig's own cmekConfig.
    if last not in ("cmekConfig", "CmekConfig"):
        raise invalid(f'{field} must end in "/cmekConfig", got "{name}"')
    return f"{location}/cmekConfig"


def _location(project: str, id_: str) -> locations_pb2.Location:
    return locations_pb2.Location(
        name=f"{project}/locations/{id_}", location_id=id_, labels={"cloud.googleapis.com/region": id_}
    )
