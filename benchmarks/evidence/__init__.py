"""make evidence: trains the small models of configs/, and judges them."""
