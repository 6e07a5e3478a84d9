"""Long measurements: speed, data, evidence, torture. Compare only numbers that the same run has measured."""
