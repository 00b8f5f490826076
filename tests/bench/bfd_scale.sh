#!/bin/bash
# Many BFD sessions between two network namespaces, each end with its process and its worker pinned to one core.
#
#   tests/bench/bfd_scale.sh [COUNT [INTERVAL_MS [MULT [SECONDS]]]]        as root; default 1000 50 3 60
#
# Prints what either end has seen (bfd_many.py). Exit 0: all sessions came up and none went down.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
COUNT=${1:-1000} INTERVAL=${2:-50} MULT=${3:-3} SECONDS_=${4:-60}
PYTHON=$PWD/.venv/bin/python
NEAR=bgpbfd-scale-near FAR=bgpbfd-scale-far
SCRATCH=$(mktemp -d) || exit 1
cleanup() {
  ip netns del "$NEAR" 2>/dev/null
  ip netns del "$FAR" 2>/dev/null
  rm -rf -- "$SCRATCH"
}
trap cleanup EXIT

ip netns add "$NEAR" && ip netns add "$FAR" || exit 1
ip -n "$NEAR" link add v0 type veth peer name v0 netns "$FAR"
ip -n "$NEAR" addr add 10.88.255.254/16 dev v0
for namespace in "$NEAR" "$FAR"; do
  ip -n "$namespace" link set lo up
  ip -n "$namespace" link set v0 up
done
for ((i = 1; i <= COUNT; i++)); do
  printf 'addr add 10.88.%d.%d/16 dev v0\n' $((i >> 8)) $((i & 255))
done | ip -n "$FAR" -batch -

run() { # namespace, core, side
  ip netns exec "$1" taskset -c "$2" "$PYTHON" tests/bench/bfd_many.py "$3" "$COUNT" "$INTERVAL" "$MULT" "$SECONDS_" >"$SCRATCH/$3"
}
run "$NEAR" 0 near &
run "$FAR" 1 far &
wait
code=0
for side in near far; do
  printf '%s\n' "$side"
  cat "$SCRATCH/$side"
  grep -q "\"up\": $COUNT, \"took_s\"" "$SCRATCH/$side" && grep -q '"falls": 0,' "$SCRATCH/$side" || code=1
done
exit "$code"
