"""Trains models: ``python -m train CONFIG --data DIR --out DIR``."""
