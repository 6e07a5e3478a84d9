"""What takes long to measure: speed, data, evidence, torture. Compare numbers of one run only: machines are shared."""
