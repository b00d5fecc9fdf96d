"""Launches the recipe `vanilla_recipes/translation.py`, for `accelerate launch` and `torchrun`."""

import sys

from vanilla_recipes.processes.launch import program
from vanilla_recipes.translation import main

if __name__ == "__main__":
    sys.exit(program(main, __file__))
