#!/usr/bin/env bash
# Installs what the tests run against: RabbitMQ, a MongoDB wire server, Chromium; and unpacks Postfix and Exim into .tools.
# Quick when all of it is there.
# Exit code 2 when something is missing and cannot be had here, after a line for each saying what to do.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 2

ferretdb=.tools/bin/ferretdb
source=tests/servers/ferretdb
mail=.tools/mail
missing=0

say() { echo "servers: $*" >&2; }
lacks() { say "$*"; missing=2; }
found() { command -v "$1" >/dev/null 2>&1; }

has_rabbitmq() {
  local script
  for script in /usr/lib/rabbitmq/bin /opt/homebrew/opt/rabbitmq/sbin /usr/local/opt/rabbitmq/sbin; do
    [ -x "$script/rabbitmq-server" ] && return
  done
  return 1
}

has_chromium() {
  found chromium || found chromium-browser || found google-chrome \
    || [ -d "/Applications/Chromium.app" ] || [ -d "/Applications/Google Chrome.app" ]
}

# as_root COMMAND...: as root, or by sudo where that asks for no password
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@" 2>/dev/null; fi
}

# RUNLEVEL=1 keeps the package from starting a service of its own.
apt_install() {
  local line="apt-get install -y --no-install-recommends $*"
  say "installing $* (apt-get)"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq >/dev/null \
    && as_root env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive $line -qq >/dev/null \
    || lacks "could not install $*; as root run: apt-get update && RUNLEVEL=1 $line"
}

has_mail_servers() {
  local servers=($mail/usr/sbin/exim4 $mail/usr/lib/postfix/sbin/smtpd $mail/usr/lib/*/libnss_wrapper.so $mail/usr/lib/*/libuid_wrapper.so)
  local linked
  linked=$(LD_LIBRARY_PATH=$mail/usr/lib/postfix ldd "${servers[@]}" 2>&1) && ! grep -q "not found" <<<"$linked"
}

# Both packages want to be the machine's one mail server, so neither is installed: docs/decisions/0023.
unpack_mail_servers() {
  local servers=(postfix exim4-daemon-light libnss-wrapper libuid-wrapper) wanted=() library folder
  say "unpacking Postfix and Exim into $mail (apt-get download)"
  as_root apt-get update -qq >/dev/null 2>&1
  for library in $(apt-cache depends --important "${servers[@]}" 2>/dev/null | sed -n 's/.*Depends: \(lib[^ ]*\)$/\1/p' | sort -u); do
    dpkg -s "$library" >/dev/null 2>&1 || wanted+=("$library")
  done
  [ ${#wanted[@]} = 0 ] || apt_install "${wanted[@]}"
  folder=$(mktemp -d)
  (cd "$folder" && apt-get download -qq -o APT::Sandbox::User=root "${servers[@]}" >/dev/null \
    && for library in *.deb; do dpkg-deb -x "$library" unpacked || exit; done \
    && chmod -R ug-s unpacked) \
    && rm -rf $mail && mkdir -p .tools && mv "$folder/unpacked" $mail
  rm -rf "$folder"
  has_mail_servers || lacks "could not unpack Postfix and Exim; run: apt-get update, then make servers again"
}

packages=()
has_rabbitmq || packages+=(rabbitmq-server)
has_chromium || packages+=(chromium)
if [ ${#packages[@]} -gt 0 ]; then
  if found apt-get; then
    apt_install "${packages[@]}"
  elif [ "$(uname)" = Darwin ]; then
    has_rabbitmq || lacks "RabbitMQ is missing; run: brew install rabbitmq"
    has_chromium || lacks "Chromium is missing; run: brew install --cask chromium"
  else
    lacks "install these with your system's package manager: ${packages[*]}"
  fi
fi

if ! found mongod && { ! [ -x $ferretdb ] || [ -n "$(find $source -newer $ferretdb -type f)" ]; }; then
  go=$(command -v go || ls /usr/local/go/bin/go 2>/dev/null)
  if [ -z "$go" ]; then
    lacks "no MongoDB wire server: install mongod, or Go 1.22 or newer (on macOS: brew install go) to build one"
  else
    say "building FerretDB with $("$go" env GOVERSION) (a minute or two, once)"
    mkdir -p .tools/bin
    (cd $source && GOFLAGS=-buildvcs=false "$go" build -o "$OLDPWD/$ferretdb" .) \
      || lacks "could not build FerretDB; see above"
    [ -x $ferretdb ] && touch $ferretdb
  fi
fi
if found apt-get; then
  has_mail_servers || unpack_mail_servers
else
  say "no apt-get here: the tests against real Postfix and Exim will be skipped"
  [ "${CI:-}" != true ] || missing=2
fi
exit $missing
