"""Launches the recipe `classification` under its former name `sentiment`, for `accelerate launch` and `torchrun`."""

import sys

from vanilla_recipes.classification import main
from vanilla_recipes.processes.launch import program

if __name__ == "__main__":
    sys.exit(program(main, __file__))
