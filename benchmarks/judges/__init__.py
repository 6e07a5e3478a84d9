"""Programs that judge sounds. They run in their own environment, except judges in pure numpy."""
