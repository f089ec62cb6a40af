#!/usr/bin/env bash
# All checks and measurements on one GPU in at most nine minutes, and a page of what they found:
#
#   benchmarks/gpu/run.sh [FOLDER] [OPTIONS of check.py]
#
# It needs no network. FOLDER (gpu-results) gets gpu.json and gpu.md. README.md describes the parts.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${1:-gpu-results}
shift || true
mkdir -p "$folder"
export PYTHONPATH="src:.${PYTHONPATH:+:$PYTHONPATH}"
python=${PYTHON:-python3}
status=0
# The report is written after every part, so that it is there if the limit ends the last one.
timeout "${LIMIT:-540}" "$python" benchmarks/gpu/check.py --out "$folder/gpu.json" "$@" || status=$?
"$python" -m scripts.results.gpu "$folder/gpu.json" "$folder/gpu.md"
exit "$status"
