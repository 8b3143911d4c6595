"""The trainer: `python -m train --config configs/X.py --workdir DIR`.

Where it is installed it is the package `as_softmax_train`, and the command
`as-softmax train`.
"""
