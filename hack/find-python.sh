#!/usr/bin/env bash
# Prints the newest Python on PATH that can make the project's virtual environment: 3.11 to 3.14, with venv and pip.
# PYTHON=/path/to/python takes that one instead. Exit code 2, with the remedy, when there is none.
set -euo pipefail

check='import sys
if not (3, 11) <= sys.version_info < (3, 15): sys.exit(f"is Python {sys.version.split()[0]}")
try: import venv, ensurepip
except ImportError: sys.exit("has no venv module (Debian and Ubuntu: apt install python3-venv)")'

seen=
for name in ${PYTHON:-python3.14 python3.13 python3.12 python3.11 python3}; do
  path=$(command -v "$name") || continue
  if why=$("$path" -I -c "$check" 2>&1 >/dev/null); then
    echo "$path"
    exit 0
  fi
  seen+="
  $path ${why##*$'\n'}"
done
echo "No usable Python: this project needs 3.11, 3.12, 3.13 or 3.14 with its venv module.${seen:-
  nothing named ${PYTHON:-python3} on PATH}
Install one (Debian and Ubuntu: apt install python3 python3-venv), or name it: make ... PYTHON=/path/to/python3" >&2
exit 2
