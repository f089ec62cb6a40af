#!/usr/bin/env bash
# Runs the study of docs/results/study.md in the background:
#
#     scripts/study/study.sh start|status|pause|resume|stop|collect
#
# The code is that of the commit in scripts/study/study.commit. It is checked out in a work tree of its
# own with an environment of its own, so that changes to this checkout do not affect the runs. All files
# lie in the folder STUDY (default: harope-study next to this checkout).
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
study=${STUDY:-"$(dirname "$root")/harope-study"}
commit=$(cat "$root/scripts/study/study.commit")
results="$root/docs/results/study"
tree="$study/tree"
python="$tree/.venv/bin/python"
script="$tree/scripts/study/study.py"

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
  local path
  for path in scripts/study/study.py benchmarks/study.py; do
    if [ -f "$tree/$path" ]; then
      echo "$tree/$path"
      return
    fi
  done
  echo "study: error: $tree has no study.py; start the study first" >&2
  return 2
}

driver() {
  # The package is the one that is installed in the environment of the work tree.
  if [ ! -f "$script" ]; then
    echo "study: error: $script does not exist; start the study first" >&2
    return 2
  fi
  OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 \
    "$python" "$script" "$1" --work "$study/runs" --results "$results" "${@:2}"
}

case ${1:-} in
  start)
    if is_running; then
      echo "the study is already running (process $(cat "$study/pid"))"
      exit 0
    fi
    set_up
    export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
    setsid nohup nice -n 19 "$python" "$script" run --work "$study/runs" \
      --results "$results" --nice 19 ${WORKERS:+--workers "$WORKERS"} \
      >> "$study/log.txt" 2>&1 < /dev/null &
    echo $! > "$study/pid"
    echo "the study is running as process $!; its log is $study/log.txt"
    ;;
  status)
    is_running && echo "running (process $(cat "$study/pid"))" || echo "not running"
    tail -n 3 "$study/log.txt" 2>/dev/null || true
    driver plan | tail -n 1
    ;;
  # All processes of the study form one process group.
  pause) kill -STOP -- "-$(cat "$study/pid")" ;;
  resume) kill -CONT -- "-$(cat "$study/pid")" ;;
  stop)
    kill -CONT -- "-$(cat "$study/pid")" 2>/dev/null || true
    kill -TERM -- "-$(cat "$study/pid")" 2>/dev/null || true
    ;;
  collect) driver collect --commit "$(cat "$study/commit")" ;;
  *)
    echo "usage: scripts/study/study.sh start|status|pause|resume|stop|collect" >&2
    exit 2
    ;;
esac
