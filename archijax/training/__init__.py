"""Contains the state of training, the training step as a pure function, and classes that distribute both over devices.

The program that trains models is `train/`.
"""

from archijax.keys import item_keys
from archijax.training.checkpoints import Checkpoints
from archijax.training.mesh import MeshParallel
from archijax.training.optimizer import EmaConfig, OptimizerConfig, adamw
from archijax.training.pmap import Pmap
from archijax.training.state import TrainState
from archijax.training.step import make_train_step

__all__ = [
    "Checkpoints",
    "EmaConfig",
    "MeshParallel",
    "OptimizerConfig",
    "Pmap",
    "TrainState",
    "adamw",
    "item_keys",
    "make_train_step",
]
