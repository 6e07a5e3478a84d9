"""Programs that judge sounds. All judges except those in pure numpy run in an environment of their own."""
