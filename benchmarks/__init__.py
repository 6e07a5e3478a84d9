"""Long measurements: speed, data, evidence, torture. Compare only numbers of the same run, because machines are
shared."""
