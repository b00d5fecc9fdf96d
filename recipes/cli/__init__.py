"""The `vanilla` command. Only the standard library is imported until a subcommand runs."""


def main() -> int:
    """Run the command line; returns the exit status."""
    return 0
