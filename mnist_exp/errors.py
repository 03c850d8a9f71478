"""The exception for mistakes the user can fix."""


class UserError(ValueError):
    """A wrong setting, file or argument.

    The message gives what was wrong, the value received, what is allowed and what to do. The
    command line prints it without a traceback and exits with code 2.
    """
