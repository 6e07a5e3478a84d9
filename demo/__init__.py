"""make demo: the bundled model follows prompts and learns a new instrument."""
