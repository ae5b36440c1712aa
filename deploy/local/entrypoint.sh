#!/bin/bash
# As the official image's: arguments come last, so they override; bash stays PID 1, without `exec`.
python -m deploy.local --host=0.0.0.0 --port=8500 --rest_api_port=8501 \
  --model_name="${MODEL_NAME}" --model_base_path="${MODEL_BASE_PATH}/${MODEL_NAME}" "$@"
