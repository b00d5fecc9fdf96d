"""What `accelerate launch` is given; the recipe is `vanilla_recipes/classification.py`, which says what it does."""

import sys

from vanilla_recipes.classification import main
from vanilla_recipes.processes.launch import program

if __name__ == "__main__":
    sys.exit(program(main, __file__))
