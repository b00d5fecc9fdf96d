"""What `accelerate launch` is given; the recipe is `vanilla_recipes/translation.py`, which says what it does."""

import sys

from vanilla_recipes.processes.launch import program
from vanilla_recipes.translation import main

if __name__ == "__main__":
    sys.exit(program(main, __file__))
