"""The one exception that a user's mistake ends in."""


class UserError(ValueError):
    """A mistake that the user can mend.

    Its message is one sentence that names the file, series, column or option, says what was found and
    what is needed, and gives the fix. The command line prints it without a traceback and exits with 2.
    """
