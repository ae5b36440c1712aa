"""A digit classifier as people put it behind Flask: the peer of `tests.bench.local_server`.

`python -m tests.bench.flask_service <port>`.
"""

import sys
from typing import Any

import numpy as np
from flask import Flask, jsonify, request

from export.digits.training import network

model = network.build()
app = Flask(__name__)


@app.post("/predict")
def predict() -> Any:
    """`{"instances": [28 × 28 pixels, …]}` → `{"predictions": [10 probabilities, …]}`."""
    images = np.array(request.json["instances"]) / 255
    return jsonify(predictions=model.predict(images, verbose=0).tolist())


if __name__ == "__main__":
    app.run(port=int(sys.argv[1]), threaded=True)
