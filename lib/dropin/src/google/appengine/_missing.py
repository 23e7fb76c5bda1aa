"""The bundled SDK's modules that this distribution does not have, and the replacement of each."""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec

PREFIX = "google.appengine."

REPLACEMENTS = {
    ("api.app_identity",): "`google.auth.default()` for credentials, `GOOGLE_CLOUD_PROJECT` for the app's id",
    ("api.apiproxy_rpc", "api.apiproxy_stub", "api.apiproxy_stub_map"): "none: Google's clients have no API proxy",
    ("api.background_thread",): "a deferred task",
    ("api.blobstore", "ext.blobstore"): "Cloud Storage, with the package `google-cloud-storage`",
    ("api.capabilities",): "none: handle the errors of `google.api_core.exceptions`",
    ("api.datastore",): "`google.cloud.datastore`, which is installed with Cloud NDB",
    ("api.datastore_errors",): "`google.cloud.ndb.exceptions`",
    ("api.datastore_types",): "the classes of `google.cloud.ndb`, such as `GeoPt` and `Key`",
    ("api.images",): "the package `pillow`; for serving URLs, Cloud Storage",
    ("api.lib_config",): "environment variables, set in `app.yaml`",
    ("api.logservice",): "`logging` to write; Cloud Logging, with the package `google-cloud-logging`, to read",
    ("api.mail", "api.mail_errors"): "a mail provider, over its API or with `smtplib`",
    ("api.memcache",): "Memorystore, with the package `redis` or `pymemcache`",
    ("api.modules",): "`GAE_SERVICE`, `GAE_VERSION` and `GAE_INSTANCE`; the App Engine Admin API",
    ("api.oauth",): "`google.oauth2.id_token.verify_oauth2_token`",
    ("api.runtime",): "Cloud Monitoring for usage; a handler of SIGTERM for the end of an instance",
    ("api.search",): "a search engine, such as Elasticsearch",
    ("api.urlfetch", "api.urlfetch_errors"): "an HTTP client, such as the package `requests`",
    ("api.users",): "Identity Platform, Identity-Aware Proxy or Google Sign-In",
    ("datastore",): "`google.cloud.ndb`, for example its `Cursor` and `QueryOptions`",
    ("ext.db",): "`google.appengine.ext.ndb`, which reads the entities that `db` wrote",
    ("ext.gql",): "`google.appengine.ext.ndb.gql`",
    ("ext.key_range",): "none; for new ids, `allocate_ids` of an NDB model",
    ("ext.remote_api",): "Google's clients, which work from any machine with credentials",
    ("ext.testbed",): "the pytest fixture `local_cloud` of `gae-deferred[local]`: docs/how-to/test-tasks.md",
    ("runtime",): "`google.api_core.exceptions`; nothing raises `DeadlineExceededError`",
}
"""By modules, without :data:`PREFIX`. The distribution's README has the same table; a test compares them."""

_BY_MODULE = {PREFIX + module: replacement for modules, replacement in REPLACEMENTS.items() for module in modules}


class _Finder:
    """Refuses the modules of the table. It is the last finder, so an app may bring such a module itself."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        if name in _BY_MODULE:
            # `from package import module` replaces a ModuleNotFoundError, and would lose the message.
            raise ImportError(
                f"gae-deferred-dropin does not have {name}. Replacement: {_BY_MODULE[name]}. "
                "Its README (lib/dropin/README.md) lists every module.",
                name=name,
            )
        return None


def install() -> None:
    """Make imports of missing modules raise an ImportError that names the replacement."""
    if _Finder not in sys.meta_path:
        sys.meta_path.append(_Finder)
