"""Makes `python -m vanilla_recipes.cli` run the `vanilla` command."""

import sys

from vanilla_recipes.cli import main

if __name__ == "__main__":
    sys.exit(main())
