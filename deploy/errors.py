"""The errors of this package."""


class DeployError(Exception):
    """A command fails. The message says why, and what to do about it.

    Attributes:
        exit_code: exit code of the command.
    """

    exit_code = 1


class UsageError(DeployError):
    """An option or a resource is missing or wrong. Nothing was deployed."""

    exit_code = 2


class VariableError(UsageError):
    """App Engine does not accept a value for a template."""


class TemplateError(UsageError):
    """A template cannot be rendered."""


class StagingError(UsageError):
    """An app cannot be staged, or would not run as it was staged."""


class CleanUpError(DeployError):
    """Clean-up could not remove everything. The message, or the output before it, has the command for the rest."""

    exit_code = 3
