"""The one exception that means "what you gave cannot be used"."""


class InputError(ValueError):
    """Bad input from the user: a file, a tree, a parameter or a value.

    The message is one line: what was given, what was expected, what to do. The command line
    prints it without a traceback and exits with status 2.
    """
