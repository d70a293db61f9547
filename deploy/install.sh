#!/bin/sh
# Installs the program into TARGET as the image has it: a virtual environment of its own without pip, every dependency
# pinned and hashed, this checkout as a wheel, byte-compiled, no write bits. Usage: install.sh TARGET [PYTHON]
set -eu
checkout=$(cd "$(dirname "$0")/.." && pwd)
target=${1:?usage: install.sh TARGET [PYTHON]}
python=${2:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Build tools live in an environment that is thrown away. pip runs from there and installs into TARGET from outside.
"$python" -m venv "$work/build"
pip() { "$work/build/bin/python" -m pip --disable-pip-version-check "$@"; }
pip install --quiet --require-hashes -r "$checkout/requirements/build.lock"
pip wheel --quiet --no-deps --no-build-isolation --wheel-dir "$work/wheels" "$checkout"

"$python" -m venv --without-pip "$target"
pip --python "$target/bin/python" install --quiet --require-hashes -r "$checkout/requirements/run.lock"
pip --python "$target/bin/python" install --quiet --no-deps --no-index "$work"/wheels/*.whl
chmod -R a+rX,a-w "$target"
