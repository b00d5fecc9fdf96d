"""`python -m vanilla_cli` is the `vanilla` command."""

import sys

from vanilla_cli import main

if __name__ == "__main__":
    sys.exit(main())
