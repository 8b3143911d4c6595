"""What is copied into exported folders; none of it knows the trainer.

There `load.py` and `answers.py` stand beside one of `run_*.py`, for the format, and one
of `read_*.py`, for the inputs.
"""
