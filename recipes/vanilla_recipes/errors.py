"""Errors that a user can correct, reported in one line."""


class UserError(ValueError):
    """A mistake in a configuration, a data file or a command.

    The message names the file, row or field, the value received, the rule and the way out. The command line prints the
    message without a traceback and exits with status 1.
    """


class ContactError(UserError):
    """Another process of the run ended or hung, so this process cannot continue."""


def one_line(text: str) -> str:
    """Replaces each run of whitespace in `text`, line breaks included, by one space."""
    return " ".join(text.split())
