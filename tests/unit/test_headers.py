"""Names of headers, as HTTP and as WSGI write them."""

import pytest

from gae_deferred import headers


def test_a_header_has_a_name_for_http_and_one_for_wsgi():
    assert headers.SIGNATURE == ("X-Deferred-Signature", "HTTP_X_DEFERRED_SIGNATURE")
    assert headers.APP_ENGINE.retry_count == "HTTP_X_APPENGINE_TASKRETRYCOUNT"
    assert headers.CLOUD_TASKS.eta == "HTTP_X_CLOUDTASKS_TASKETA"


@pytest.mark.parametrize("key", ["CONTENT_TYPE", "wsgi.input", "PATH_INFO"])
def test_a_variable_that_holds_no_header_has_no_header_name(key: str):
    assert headers.name_of(key) is None


def test_a_name_is_read_back_from_wsgi_with_capitals():
    assert headers.name_of(headers.CURRENT_NAMESPACE.environ_key) == "X-Appengine-Current-Namespace"


@pytest.mark.parametrize(
    "name", ["Authorization", "COOKIE", "Proxy-Authorization", "x-serverless-authorization", headers.SIGNATURE.name]
)
def test_a_secret_is_known_in_any_case(name: str):
    assert headers.is_secret(name)
    assert not headers.is_secret(f"{name}-x")


@pytest.mark.parametrize("name", ["X-Goog-IAP-JWT-Assertion", "x-goog-api-key"])
def test_the_headers_of_googles_front_ends_are_secret(name: str):
    assert headers.is_secret(name)
    assert not headers.is_secret(f"X-{name}")
