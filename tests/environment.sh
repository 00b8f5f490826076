# What tests/run and tests/bench/run share: the virtual environment, the peers from Debian. Sourced, in the root of the
# repository, with PROGRAM set.

PACKAGES=(bird2 frr gobgpd exabgp openbgpd tshark tcpdump nftables iproute2 procps)
BIN=.venv/bin
SCRATCH=$(mktemp -d) || exit 1
POLICY=/usr/sbin/policy-rc.d
made_policy=

cleanup() {
  rm -rf -- "$SCRATCH"
  if [[ -n $made_policy ]]; then rm -f -- "$POLICY"; fi
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say() { printf -- '-- %s\n' "$*"; }
fail() {
  printf '%s: %s\n' "$PROGRAM" "$*" >&2
  exit 1
}
quietly() { # the output is shown only if the command fails
  "$@" >"$SCRATCH/out" 2>&1 && return 0
  local code=$?
  tail -n 40 "$SCRATCH/out" >&2
  return "$code"
}

make_environment() { # the extra of pyproject.toml that is needed
  local extra=$1
  local python=${PYTHON:-python3}
  if [[ ! -x $BIN/python ]]; then
    command -v "$python" >/dev/null || fail "python3 is needed (Debian: apt-get install python3 python3-venv)"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "Python 3.11 or newer is needed"
    say "making .venv"
    quietly "$python" -m venv .venv || {
      rm -rf .venv
      fail "cannot make a virtual environment (Debian: apt-get install python3-venv)"
    }
  fi
  local stamp=$BIN/../tests-run-$extra.stamp wanted
  wanted="$(sha256sum <pyproject.toml) $PWD"
  if [[ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]]; then
    say "installing the project with what '$extra' needs into .venv"
    quietly "$BIN/python" -m pip install --quiet --disable-pip-version-check --no-input -e ".[$extra]" ||
      fail "pip could not install the project; if the lines above speak of connections or of no matching distribution," \
        "the package index is out of reach: see pip's --index-url and --proxy"
    printf '%s\n' "$wanted" >"$stamp"
  fi
}

missing_packages() {
  local package
  for package in "${PACKAGES[@]}"; do
    [[ $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) == "install ok installed" ]] || printf '%s\n' "$package"
  done
}

apt_install() {
  DEBIAN_FRONTEND=noninteractive quietly apt-get -o DPkg::Lock::Timeout=120 -o Acquire::Retries=2 \
    install -y --no-install-recommends "$@" </dev/null
}

install_peers() {
  command -v apt-get >/dev/null && command -v dpkg-query >/dev/null || {
    say "not Debian: the peers that are not installed are skipped"
    return
  }
  local missing
  mapfile -t missing < <(missing_packages)
  if ((${#missing[@]})); then
    if ((EUID != 0)); then
      say "not root: not installed, and skipped: ${missing[*]}"
      return
    fi
    say "installing ${missing[*]}"
    if [[ ! -e $POLICY ]]; then # keeps the packages from starting their services
      made_policy=1
      printf '#!/bin/sh\nexit 101\n' >"$POLICY" && chmod 755 "$POLICY"
    fi
    apt_install "${missing[@]}" 2>/dev/null || {
      DEBIAN_FRONTEND=noninteractive quietly apt-get -o Acquire::Retries=2 update </dev/null
      apt_install "${missing[@]}"
    } || say "apt-get could not install all of them (is the package archive out of reach?): their tests will be skipped"
    if [[ -n $made_policy ]]; then
      rm -f -- "$POLICY"
      made_policy=
    fi
  fi
  # The package leaves its user to systemd-sysusers, which a container may not have.
  if ((EUID == 0)) && [[ -e /usr/sbin/bgpctl ]] && ! getent passwd _openbgpd >/dev/null; then
    useradd --system --user-group --no-create-home --home-dir /run/openbgpd --shell /usr/sbin/nologin _openbgpd ||
      say "cannot make the user _openbgpd: OpenBGPD will be skipped"
  fi
}
