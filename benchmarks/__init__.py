"""Long measurements: speed, data, quality of sound, torture. Compare only numbers that the same run has measured."""
