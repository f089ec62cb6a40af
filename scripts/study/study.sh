#!/usr/bin/env bash
# Carries out the study of docs/results/study.md beside other work:
#
#     benchmarks/study.sh start|status|pause|resume|stop|collect
#
# The code is that of the commit in benchmarks/study.commit, checked out in a work tree of its own with
# an environment of its own, so that work on this checkout changes nothing in the runs. Everything lies
# in the folder STUDY (default: harope-study beside this checkout).
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
study=${STUDY:-"$(dirname "$root")/harope-study"}
commit=$(cat "$root/benchmarks/study.commit")
results="$root/docs/results/study"
tree="$study/tree"
python="$tree/.venv/bin/python"

is_running() {
  [ -f "$study/pid" ] && kill -0 "$(cat "$study/pid")" 2>/dev/null
}

set_up() {
  mkdir -p "$study"
  if [ "$(cat "$study/commit" 2>/dev/null || true)" != "$commit" ]; then
    git -C "$root" worktree remove --force "$tree" 2>/dev/null || true
    rm -rf "$tree"
    git -C "$root" worktree prune
    git -C "$root" worktree add --quiet --detach "$tree" "$commit"
    make --no-print-directory -C "$tree" .venv/.train
    echo "$commit" > "$study/commit"
  fi
}

driver() {
  # Python finds the tree's package by its environment, and the list of runs beside the script.
  OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 \
    "$python" "$tree/benchmarks/study.py" "$1" --work "$study/runs" --results "$results" "${@:2}"
}

case ${1:-} in
  start)
    if is_running; then
      echo "the study is running already (process $(cat "$study/pid"))"
      exit 0
    fi
    set_up
    export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
    setsid nohup nice -n 19 "$python" "$tree/benchmarks/study.py" run --work "$study/runs" \
      --results "$results" --nice 19 ${WORKERS:+--workers "$WORKERS"} \
      >> "$study/log.txt" 2>&1 < /dev/null &
    echo $! > "$study/pid"
    echo "the study runs as process $!; its log is $study/log.txt"
    ;;
  status)
    is_running && echo "running (process $(cat "$study/pid"))" || echo "not running"
    tail -n 3 "$study/log.txt" 2>/dev/null || true
    driver plan | tail -n 1
    ;;
  # The processes of a start form a group.
  pause) kill -STOP -- "-$(cat "$study/pid")" ;;
  resume) kill -CONT -- "-$(cat "$study/pid")" ;;
  stop)
    kill -CONT -- "-$(cat "$study/pid")" 2>/dev/null || true
    kill -TERM -- "-$(cat "$study/pid")" 2>/dev/null || true
    ;;
  collect) driver collect --commit "$(cat "$study/commit")" ;;
  *)
    echo "usage: benchmarks/study.sh start|status|pause|resume|stop|collect" >&2
    exit 2
    ;;
esac
