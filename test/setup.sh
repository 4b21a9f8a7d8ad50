#!/bin/bash
# Installs what the tests need where it may (root on Debian); elsewhere prints
# one line that does, and the tests that miss something skip and say so.
# With CI=true anything still missing is an error.
set -u
export PATH="$PATH:/usr/sbin:/sbin"

found() { # name of a need
  case $1 in
    postgresql)
      [ -n "${PRIVYSEAL_TEST_POSTGRES:-}" ] && return 0
      command -v initdb >/dev/null 2>&1 && return 0
      for d in /usr/lib/postgresql/*/bin /opt/homebrew/opt/postgresql*/bin /usr/local/opt/postgresql*/bin; do
        [ -x "$d/initdb" ] && return 0
      done
      docker info >/dev/null 2>&1 ;;
    softhsm)
      for f in /usr/lib/softhsm/libsofthsm2.so /usr/lib/*/softhsm/libsofthsm2.so /opt/homebrew/lib/softhsm/libsofthsm2.so /usr/local/lib/softhsm/libsofthsm2.so; do
        [ -e "$f" ] && return 0
      done
      return 1 ;;
    strace) [ "$(uname -s)" = Darwin ] || command -v strace >/dev/null 2>&1 ;; # there is none on macOS
    strongswan) command -v pki >/dev/null 2>&1 && pki --scep --help >/dev/null 2>&1 ;;
    *) command -v "$1" >/dev/null 2>&1 ;;
  esac
}

debian() {
  case $1 in
    postgresql) echo postgresql ;;
    softhsm) echo softhsm2 opensc ;;
    p11-kit) echo p11-kit p11-kit-modules ;;
    cc) echo gcc libc6-dev ;;
    redocly) command -v npm >/dev/null 2>&1 || echo npm ;;
    ocsptool) echo gnutls-bin ;;
    strongswan) echo strongswan-pki libstrongswan-extra-plugins libstrongswan-standard-plugins ;;
    *) echo "$1" ;;
  esac
}
brew() { case $1 in postgresql) echo postgresql@17 ;; softhsm) echo softhsm opensc ;; ocsptool) echo gnutls ;; redocly) echo redocly-cli ;; acme-tiny | cc | strongswan) ;; *) echo "$1" ;; esac; }

missing() { for n in openssl curl certbot lego uacme acme-tiny postgresql softhsm p11-kit cc strongswan strace ocsptool redocly; do found "$n" || echo "$n"; done; }

# scepclient comes by Go's own means, on every system.
if ! command -v scepclient >/dev/null 2>&1 && [ ! -x "$(go env GOPATH)/bin/scepclient" ]; then
  GOFLAGS= go install github.com/micromdm/scep/v2/cmd/scepclient@v2.3.0 || echo "setup-test: scepclient could not be installed"
fi

# So does the generator that api/openapi.yaml is tried with.
if [ ! -x "$(go env GOPATH)/bin/oapi-codegen" ]; then
  GOFLAGS= go install github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2 || echo "setup-test: oapi-codegen could not be installed"
fi

lacks=$(missing)
[ -z "$lacks" ] && exit 0

if [ "$(id -u)" = 0 ] && [ -e /etc/debian_version ]; then
  packages=$(for n in $lacks; do debian "$n"; done)
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -q >/dev/null && apt-get install -q -y --no-install-recommends $packages >/dev/null
  # The linter of api/openapi.yaml.
  found redocly || npm install --global --no-audit --no-fund @redocly/cli@2.77.0 >/dev/null
  lacks=$(missing)
  [ -z "$lacks" ] && exit 0
fi

echo "setup-test: missing:" $lacks
case $(uname -s) in
  Darwin) echo "setup-test: brew install" $(for n in $lacks; do brew "$n"; done) ;;
  *) echo "setup-test: sudo apt-get install -y --no-install-recommends" $(for n in $lacks; do debian "$n"; done)
    found redocly || echo "setup-test: sudo npm install --global @redocly/cli@2.77.0" ;;
esac
[ "${CI:-}" = true ] && exit 1
exit 0
