"""The one error that a user is meant to read."""


class InputError(ValueError):
    """Bad input, told in one sentence: what was found, what was expected and what to do.

    The command line prints the sentence and ends with exit status 2; a notebook sees an ordinary ValueError.
    """
