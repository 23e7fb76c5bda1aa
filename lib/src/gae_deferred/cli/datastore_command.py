"""Runs a command in an NDB context, and reports errors in one line."""

import contextlib
from collections.abc import Iterator

import click

from gae_deferred import datastore, emulator, settings
from gae_deferred.cli import chosen_cloud
from gae_deferred.errors import Error
from gae_deferred.payload_store import MissingPayloadError

WHERE = (
    "For a project: set GOOGLE_CLOUD_PROJECT, and log in with `gcloud auth application-default login`. "
    "For a running local cloud: set DATASTORE_EMULATOR_HOST to the address that it shows beside Datastore, such as "
    "127.0.0.1:8081"
)


@contextlib.contextmanager
def as_message() -> Iterator[None]:
    """Report an error of this library in one line, without a traceback.

    Raises:
        click.ClickException: the block raised an :class:`~gae_deferred.errors.Error`, or a stored payload is missing.
    """
    try:
        yield
    except (Error, MissingPayloadError) as error:
        raise click.ClickException(str(error)) from error


@contextlib.contextmanager
def in_datastore() -> Iterator[None]:
    """Open an NDB context for a command; usable as a decorator.

    Raises:
        click.ClickException: there are no credentials, Datastore does not answer, or it refuses.
    """
    from google.api_core.exceptions import GoogleAPICallError, RetryError
    from google.auth.exceptions import GoogleAuthError

    chosen_cloud.choose()
    address = settings.datastore_emulator()
    if address is not None and not emulator.listens(address):
        raise click.ClickException(emulator.absence("Datastore", address, "DATASTORE_EMULATOR_HOST"))
    try:
        context = datastore.context()
    except (GoogleAuthError, OSError) as error:  # NDB raises OSError if the project is not known
        raise click.ClickException(f"{error}\n{WHERE}") from error
    try:
        with context:
            yield
    except RetryError as error:
        raise click.ClickException(f"Datastore did not answer: {error.cause}\n{WHERE}") from error
    except (GoogleAPICallError, GoogleAuthError) as error:
        raise click.ClickException(f"Google Cloud refused: {error}\n{WHERE}") from error
