#!/bin/sh
# Makes .venv hold a set of this folder, and the client as it stands: sh locks/install.sh SET PYTHON
#
# uv installs in a fraction of pip's time, by the same hashes. It comes from the package index into
# build/ if it is not on the path; where it does not get what it needs, pip does the work.
set -eu
lock=locks/$1.txt python=$2

with_uv() {
  uv=$(command -v uv) || uv=build/uv/bin/uv
  [ -x "$uv" ] || "$python" -m pip install --quiet --disable-pip-version-check --target build/uv \
    --require-hashes --requirement locks/uv.txt || return
  [ -d .venv ] || "$uv" venv --quiet --python "$python" .venv || return
  install="$uv pip install --quiet --python .venv"
  $install --require-hashes --requirement "$lock" || return
  $install --offline --no-deps --no-build-isolation --editable client
}

with_pip() {
  [ -x .venv/bin/pip ] || "$python" -m venv .venv
  install=".venv/bin/pip install --quiet --disable-pip-version-check"
  $install --require-hashes --requirement "$lock"
  $install --no-index --no-deps --no-build-isolation --editable client
}

with_uv 2>/dev/null || with_pip
# Headers for who compiles operations of their own; a fifth of TensorFlow.
rm -rf .venv/lib/python*/site-packages/tensorflow/include
