"""make demo: the bundled model follows prompts and learns an instrument that it does not know."""
