"""What can go wrong before, while and after an app is deployed."""


class DeployError(Exception):
    """The work ends here. The message says what is wrong, and what to do about it.

    Attributes:
        exit_code: with which the command ends.
    """

    exit_code = 1


class UsageError(DeployError):
    """Something has to be said or mended first; nothing was deployed."""

    exit_code = 2


class VariableError(UsageError):
    """A value for a template is not one that App Engine takes."""


class TemplateError(UsageError):
    """A template cannot be rendered."""


class StagingError(UsageError):
    """A folder cannot be staged, or what was staged would not run."""


class CleanUpError(DeployError):
    """Something was left behind. The message has the command that removes it."""

    exit_code = 3
