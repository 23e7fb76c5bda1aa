"""Entities and tasks of the tests of namespaces."""

from google.cloud import ndb
from once_tasks import CALLS

from gae_deferred import deferred


class Invoice(ndb.Model):
    owner = ndb.StringProperty()


def write_invoices(*tenants: str) -> None:
    """Give each tenant an invoice of the same id, which names its owner."""
    ndb.put_multi([Invoice(id="1", namespace=tenant, owner=tenant or "nobody") for tenant in tenants])


def read(*ignored: object) -> None:
    """Note whose invoice a look-up and a query find that name no namespace."""
    CALLS.append((Invoice.get_by_id("1").owner, [invoice.owner for invoice in Invoice.query()]))


@deferred.once
def read_once() -> None:
    CALLS.append(Invoice.get_by_id("1").owner)


@deferred.once
def pass_on() -> None:
    """Defer another task from a task of a tenant."""
    deferred.defer(read_once, _transactional=True)


def fail_for_good(*ignored: object) -> None:
    CALLS.append(ndb.get_context().get_namespace())
    raise deferred.PermanentTaskFailure("never")
