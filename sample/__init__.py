"""The sampling programs: ``python -m sample VERB --model DIR ...``."""
