"""Locations, access policies and keys are stored and returned."""

import pytest
from google.api_core import exceptions
from google.cloud import tasks_v2
from google.iam.v1 import iam_policy_pb2, policy_pb2

from .harness import PARENT, QUEUE, Cloud


async def test_locations_are_listed_and_found(held: Cloud) -> None:
    held.server.ensure_queue("projects/test/locations/mars-north1/queues/q")
    listed = await held.client.list_locations({"name": "projects/test"})
    ids = [location.location_id for location in listed.locations]
    assert ids == sorted(ids)
    assert {"us-central1", "europe-west1", "mars-north1"} <= set(ids)
    assert (await held.client.get_location({"name": PARENT})).name == PARENT
    with pytest.raises(exceptions.NotFound):
        await held.client.get_location({"name": "projects/test/locations/venus"})
    first = await held.client.list_locations({"name": "projects/test", "page_size": 2})
    second = await held.client.list_locations({"name": "projects/test", "page_token": first.next_page_token})
    assert [*first.locations, *second.locations] == list(listed.locations)


async def test_each_change_of_a_policy_is_stored_with_a_new_etag(held: Cloud, tmp_path: str) -> None:
    held.path = f"{tmp_path}/tasks.sqlite3"
    await held.restart()
    empty = await held.client.get_iam_policy(request={"resource": QUEUE})
    assert not empty.bindings
    policy = policy_pb2.Policy(
        bindings=[policy_pb2.Binding(role="roles/cloudtasks.enqueuer", members=["user:a@example.com"])], etag=empty.etag
    )
    kept = await held.client.set_iam_policy(request=iam_policy_pb2.SetIamPolicyRequest(resource=QUEUE, policy=policy))
    assert list(kept.bindings) == list(policy.bindings)
    assert kept.etag != empty.etag
    with pytest.raises(exceptions.Aborted, match="etag"):
        await held.client.set_iam_policy(request=iam_policy_pb2.SetIamPolicyRequest(resource=QUEUE, policy=policy))
    await held.restart()
    assert await held.client.get_iam_policy(request={"resource": QUEUE}) == kept


async def test_masked_change_of_a_policy_keeps_the_rest(held: Cloud) -> None:
    bindings = [policy_pb2.Binding(role="roles/viewer", members=["user:a@example.com"])]
    await held.client.set_iam_policy(request={"resource": QUEUE, "policy": policy_pb2.Policy(bindings=bindings)})
    change = iam_policy_pb2.SetIamPolicyRequest(
        resource=QUEUE, policy=policy_pb2.Policy(version=3), update_mask={"paths": ["version"]}
    )
    changed = await held.client.set_iam_policy(request=change)
    assert (changed.version, [*changed.bindings]) == (3, bindings)


async def test_policy_is_deleted_with_its_queue(held: Cloud) -> None:
    policy = policy_pb2.Policy(bindings=[policy_pb2.Binding(role="roles/viewer", members=["user:a@example.com"])])
    await held.client.set_iam_policy(request=iam_policy_pb2.SetIamPolicyRequest(resource=QUEUE, policy=policy))
    await held.client.delete_queue(name=QUEUE)
    with pytest.raises(exceptions.NotFound):
        await held.client.get_iam_policy(request={"resource": QUEUE})
    await held.client.create_queue(parent=PARENT, queue=tasks_v2.Queue(name=QUEUE))
    assert not (await held.client.get_iam_policy(request={"resource": QUEUE})).bindings


async def test_caller_has_every_permission(held: Cloud) -> None:
    permissions = ["cloudtasks.tasks.create", "cloudtasks.queues.get"]
    answer = await held.client.test_iam_permissions(request={"resource": QUEUE, "permissions": permissions})
    assert list(answer.permissions) == permissions
    with pytest.raises(exceptions.InvalidArgument, match="permissions"):
        await held.client.test_iam_permissions(request={"resource": QUEUE, "permissions": ["cloudtasks.*"]})


async def test_key_of_a_location_is_stored(held: Cloud) -> None:
    name = f"{PARENT}/cmekConfig"
    assert (await held.client.get_cmek_config(name=name)).kms_key == ""
    config = tasks_v2.CmekConfig(name=name, kms_key="projects/test/locations/l/keyRings/r/cryptoKeys/k")
    assert await held.client.update_cmek_config(cmek_config=config) == config
    assert await held.client.get_cmek_config(name=name) == config
    assert await held.client.get_cmek_config(name=f"{PARENT}/CmekConfig") == config
    with pytest.raises(exceptions.InvalidArgument, match='must end in "/cmekConfig"'):
        await held.client.get_cmek_config(name=f"{PARENT}/other")
    with pytest.raises(exceptions.InvalidArgument, match="must be formatted"):
        await held.client.get_cmek_config(name="projects/test/cmekConfig")
