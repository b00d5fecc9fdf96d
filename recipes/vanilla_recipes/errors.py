"""What a user did wrong, told in one line."""


class UserError(ValueError):
    """A mistake in a configuration, a data file or a command.

    The message names the file, row or field, the value received, the rule and the way out. The command prints it
    alone, without a traceback, and exits with 1.
    """


class ContactError(UserError):
    """Another process of the run ended or hung, so that this one cannot go on."""


def one_line(text: str) -> str:
    """`text` with every line break and run of spaces made one space."""
    return " ".join(text.split())
