#!/usr/bin/env bash
# Measures hyphafs beside ext4, go-fuse's loopback, gocryptfs and JuiceFS. From anywhere: integration/compare.sh [flags of ./integration/compare]
# As root it runs twice, as root and as an ordinary user through fusermount3; AS=root or AS=user chooses one. JUICEFS is the path of a JuiceFS
# binary; without it JuiceFS is left out. TMPDIR says on which disk.
set -euo pipefail
cd "$(dirname "$0")/.."
missing=()
need() { command -v "$1" >/dev/null || missing+=("$2"); }
need fusermount3 fuse3; need gocryptfs gocryptfs; need git git; need rsync rsync; need sqlite3 sqlite3; need setpriv util-linux
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  else
    echo "missing: ${missing[*]} (install these Debian packages, then run again)" >&2
    exit 1
  fi
fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
chmod 755 "$dir"
go build -o "$dir/" ./cmd/hyphafs ./integration/compare github.com/hanwen/go-fuse/v2/example/loopback
run() { "$dir/compare" -bin "$dir" -dir "$dir" ${JUICEFS:+-juicefs "$JUICEFS"} "$@"; }
case $(id -u):${AS:-both} in
  0:both) run "$@"; echo; run -user 65534 "$@" ;;
  0:user) run -user 65534 "$@" ;;
  *) run "$@" ;;
esac
