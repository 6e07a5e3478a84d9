"""Serves the web page: ``python -m archijax.web --model NAME_OR_DIR``."""
