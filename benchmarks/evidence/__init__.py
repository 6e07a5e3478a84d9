"""make evidence: the small models of configs/, trained and judged."""
