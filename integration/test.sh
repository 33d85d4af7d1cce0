#!/usr/bin/env bash
# Installs what the tests need and runs them all. From anywhere: integration/test.sh
# As root on Debian it installs the missing packages; elsewhere it says which are missing. How long the fuzz targets run: see fuzz.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
start=$SECONDS
step() { printf '\n== %s (%d s)\n' "$*" $((SECONDS - start)); }

step packages
missing=()
need() { command -v "$1" >/dev/null || missing+=("$2"); }
need fusermount3 fuse3; need node nodejs; need npm npm; need git git; need make make; need gcc gcc; need sqlite3 sqlite3; need rsync rsync
need vim.tiny vim-tiny; need zip zip; need unzip unzip; need python3 python3; need setpriv util-linux; need xz xz-utils; need dpkg-deb dpkg; need ar binutils; need gcore gdb
need systemd-analyze systemd; need ip iproute2; need nginx nginx-light; need useradd passwd; need nsenter util-linux; need curl curl
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  else
    echo "missing: ${missing[*]} (install these Debian packages, then run again)" >&2
    exit 1
  fi
fi
(cd integration/peers && npm ci --omit=optional --no-audit --no-fund --loglevel=error)
go mod download
go install github.com/versity/versitygw/cmd/versitygw@v1.8.0 # the S3 server that drive/archive/s3/s3test runs
go install github.com/letsencrypt/pebble/v2/cmd/pebble@v2.10.1 # the certificate authority that TestACME asks

step format, vet, staticcheck
unformatted=$(git ls-files '*.go' | xargs gofmt -l)
if [ -n "$unformatted" ]; then echo "gofmt would change: $unformatted" >&2; exit 1; fi
go vet ./...
browser=$(go list ./drive/... ./auth/... ./replication/... | grep -v -e /drive/boltview -e /drive/archive/s3 -e /replication/tcp)
GOOS=js GOARCH=wasm go vet $browser
go run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...
go mod verify

step import rules
go test -count=1 -run 'TestImports|TestBrowserBuild' ./integration

step packages with the race detector
go test -race -count=1 -timeout 20m $(go list ./... | grep -v -e /fs$ -e /integration$ -e /powerloss$ -e /cmd/)

step power losses
go test -count=1 -timeout 20m ./integration/powerloss # 10,000 instants from a new seed

step command line and mounts
go test -race -count=1 -timeout 15m ./cmd/...
go test -race -p 1 -count=1 -timeout 10m ./fs
GOMAXPROCS=1 go test -p 1 -count=1 -timeout 10m ./fs

step the built binary with real programs and real peers
go test -p 1 -count=1 -timeout 25m ./integration

step every fuzz target
integration/fuzz.sh

step known vulnerabilities
if curl -sfo /dev/null --max-time 10 https://vuln.go.dev/index/modules.json; then
  go run golang.org/x/vuln/cmd/govulncheck@v1.9.0 ./...
else
  echo "skipped: the vulnerability database cannot be reached from here"
fi
step all done
