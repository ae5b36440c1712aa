"""TensorFlow without most of its Python.

`import tensorflow` brings Keras, distribution, data sets and more: most of the time of a start. A
server needs graphs, sessions and records. Their modules are not public, and can be relied on for
the one minor that this bundle pins.
"""

import importlib.util
import sys
import types


def prepare() -> None:
    """Let modules of TensorFlow be imported from now on without the package's own `__init__`.

    Raises:
        ModuleNotFoundError: TensorFlow is not installed.
    """
    spec = importlib.util.find_spec("tensorflow")
    if spec is None:
        raise ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow")
    package = types.ModuleType("tensorflow")
    package.__spec__, package.__path__ = spec, list(spec.submodule_search_locations or ())
    sys.modules.setdefault("tensorflow", package)
