"""The environment variables by which the runtime knows that it is on App Engine."""

ON_APP_ENGINE = {"GAE_ENV": "standard", "GAE_APPLICATION": "s~my-project", "GAE_INSTANCE": "instance-1"}
