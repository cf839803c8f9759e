#!/bin/sh
# Installs libnccl-net-dure.so, the network plug-in for NCCL: install.sh PREFIX [FOLDER]
#
# FOLDER is where libnccl_net_dure.so lies: target/release of the workspace unless given. DESTDIR is put before PREFIX, for
# packagers. What is installed can be moved as a whole. NCCL finds it where the loader looks, when NCCL_NET_PLUGIN=dure.
set -eu

if [ $# -lt 1 ] || [ $# -gt 2 ]; then
  echo "usage: $0 PREFIX [FOLDER]" >&2
  exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
to=${DESTDIR:-}$1
from=${2:-$root/target/release}
if [ ! -f "$from/libnccl_net_dure.so" ]; then
  echo "$0: no libnccl_net_dure.so in $from: build it with cargo build --release --package dure-nccl-net" >&2
  exit 1
fi

doc=$to/share/doc/dure-nccl-net
mkdir -p "$to/include/dure-nccl-net" "$to/lib" "$doc/examples"
install -m 755 "$from/libnccl_net_dure.so" "$to/lib/libnccl-net-dure.so"
install -m 644 "$here/include/dure_nccl_net.h" "$to/include/dure-nccl-net/"
install -m 644 "$root/LICENSE-APACHE" "$root/LICENSE-MIT" "$here/README.md" "$doc/"
install -m 644 "$here"/examples/*.c "$doc/examples/"
