"""The one exception for mistakes that the user can mend."""


class UserError(ValueError):
    """A wrong setting, file or argument.

    The message says what was wrong, the value got, what is allowed and what to do. The command
    line prints it without a traceback and exits with 2.
    """
