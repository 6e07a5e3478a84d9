"""Makes and edits sounds with trained models: ``python -m sample VERB --model DIR ...``."""
