# Sourced by the run scripts beside it: two network namespaces on one cable, a router's and an anycast host's.
# Nothing outside the namespaces is touched, and everything is removed at the end. Needs root.
#
#   router  192.0.2.1    2001:db8:0:1::1    AS 65001   a real BGP daemon
#   host    192.0.2.10   2001:db8:0:1::10   AS 65010   bgpbfd, announcing 203.0.113.53/32 and 2001:db8:53::53/128
set -eu -o pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[1]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
if [[ -x $ROOT/.venv/bin/bgpbfd ]]; then PATH=$ROOT/.venv/bin:$PATH; fi
PATH=$PATH:/usr/sbin:/sbin
ROUTER=bgpbfd-router-$$ HOST=bgpbfd-host-$$

die() {
  echo "$0: $*" >&2
  exit 1
}
((EUID == 0)) || die "needs root (for network namespaces)"
for program in ip bgpbfd bgpbfdctl "${NEEDS[@]}"; do
  command -v "$program" >/dev/null || die "$program is not installed"
done

SCRATCH=$(mktemp -d /tmp/bgpbfd-example.XXXXXX)
chmod 755 "$SCRATCH"
pids=()

lab_end() {
  local pid
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || :; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || :; done
  ip netns del "$ROUTER" 2>/dev/null || :
  ip netns del "$HOST" 2>/dev/null || :
  rm -rf -- "$SCRATCH" ${CLEAN:-}
}
trap lab_end EXIT
trap 'exit 130' INT TERM

on_router() { ip netns exec "$ROUTER" "$@"; }
on_host() { ip netns exec "$HOST" "$@"; }
ctl() { bgpbfdctl --api "unix:$SCRATCH/api.sock" "$@"; }

# Not through on_router and on_host: $! has to be the program's own process, for lab_end to end it.
router_starts() { # program…
  ip netns exec "$ROUTER" "$@" >>"$SCRATCH/router.log" 2>&1 </dev/null &
  pids+=($!)
}

host_starts() {
  { echo "api_socket = \"unix:$SCRATCH/api.sock\"" && cat "$HERE/bgpbfd.toml"; } >"$SCRATCH/bgpbfd.toml"
  ip netns exec "$HOST" bgpbfd run "$SCRATCH/bgpbfd.toml" >>"$SCRATCH/host.log" 2>&1 </dev/null &
  pids+=($!)
}

wait_for() { # seconds, what, command…: until the command succeeds
  local seconds=$1 what=$2 end=$((SECONDS + $1))
  shift 2
  until "$@" >/dev/null 2>&1; do
    if ((SECONDS > end)); then
      tail -n 20 "$SCRATCH"/*.log >&2
      die "not within $seconds s: $what"
    fi
    sleep 0.2
  done
}

both_established() { [[ $(ctl --no-header show neighbors | grep -ci established) == 2 ]]; }
title() { printf '\n== %s\n' "$*"; }

ip netns add "$ROUTER"
ip netns add "$HOST"
ip -n "$ROUTER" link add eth0 type veth peer name eth0 netns "$HOST"
ip -n "$ROUTER" addr add 192.0.2.1/24 dev eth0
ip -n "$HOST" addr add 192.0.2.10/24 dev eth0
ip -n "$ROUTER" addr add 2001:db8:0:1::1/64 dev eth0 nodad
ip -n "$HOST" addr add 2001:db8:0:1::10/64 dev eth0 nodad
for namespace in "$ROUTER" "$HOST"; do
  ip -n "$namespace" link set lo up
  ip -n "$namespace" link set eth0 up
done
ip -n "$HOST" addr add 203.0.113.53/32 dev lo
ip -n "$HOST" addr add 2001:db8:53::53/128 dev lo nodad
