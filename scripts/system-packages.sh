#!/usr/bin/env bash
# Install the Debian packages whose programs the tests run, or name them and fail.
#   scripts/system-packages.sh postgresql pgbouncer redis rabbitmq chromium
# Nothing is installed when every program is there. Installing needs root or a sudo without a password.
# The tests start servers of their own; the system's services are neither needed nor started.
set -euo pipefail

postgresql_is_here() { ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || command -v postgres >/dev/null; }
pgbouncer_is_here() { PATH=$PATH:/usr/sbin command -v pgbouncer >/dev/null; }
redis_is_here() { command -v redis-server >/dev/null || command -v valkey-server >/dev/null; }
rabbitmq_is_here() { PATH=$PATH:/usr/sbin command -v rabbitmq-server >/dev/null; }
memcached_is_here() { command -v memcached >/dev/null; }
libmemcached_is_here() { [ -e /usr/include/libmemcached/memcached.h ] || [ -e /usr/local/include/libmemcached/memcached.h ]; }
chromium_is_here() { command -v chromium >/dev/null && command -v chromedriver >/dev/null; }

packages=()
for service in "$@"; do
    if "${service}_is_here"; then continue; fi
    case $service in
        postgresql) packages+=(postgresql) ;;
        pgbouncer) packages+=(pgbouncer) ;;
        redis) packages+=(redis-server) ;;
        memcached) packages+=(memcached) ;;
        libmemcached) packages+=(libmemcached-dev zlib1g-dev gcc libc6-dev) ;;
        rabbitmq) packages+=(rabbitmq-server) ;;
        chromium) packages+=(chromium chromium-driver fonts-dejavu-core) ;;
    esac
done
if [ ${#packages[@]} -eq 0 ]; then exit 0; fi

missing="These tests run real services, and this machine lacks the Debian packages: ${packages[*]}"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! sudo -n true 2>/dev/null; then
        echo "$missing" >&2
        echo "Install them: sudo apt-get install ${packages[*]}" >&2
        exit 1
    fi
    as_root=(sudo -n)
fi
if ! command -v apt-get >/dev/null; then
    echo "$missing; apt-get is not here to install them." >&2
    exit 1
fi

echo "Installing ${packages[*]}" >&2
# RUNLEVEL=1 keeps Debian's scripts from starting the services they install.
apt() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
        apt-get -qq -o DPkg::Lock::Timeout=600 "$@" </dev/null >&2
}
apt update || echo "apt-get update failed; trying the package lists that are here" >&2
if ! apt install -y --no-install-recommends "${packages[@]}"; then
    echo "$missing, and installing them failed." >&2
    exit 1
fi
