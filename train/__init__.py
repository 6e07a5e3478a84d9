"""The training program: ``python -m train CONFIG --data DIR --out DIR``."""
