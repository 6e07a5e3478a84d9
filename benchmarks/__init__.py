"""Long measurements: speed, data, evidence, torture. Compare only numbers of one run, because machines are shared."""
