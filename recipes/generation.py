"""Launches the recipe `vanilla_recipes/generation.py`, for `accelerate launch` and `torchrun`."""

import sys

from vanilla_recipes.generation import main
from vanilla_recipes.processes.launch import program

if __name__ == "__main__":
    sys.exit(program(main, __file__))
