"""`python -m vit_jax`: the command line, where the console script is not on the path."""

from vit_jax.main import run

if __name__ == "__main__":
    run()
