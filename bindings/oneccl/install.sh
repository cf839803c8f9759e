#!/bin/sh
# Installs Dure's back end for oneCCL: install.sh PREFIX [FOLDER]
#
# FOLDER is where libdure_oneccl.so lies: target/release of the workspace unless given. DESTDIR is put before PREFIX, for
# packagers. What is installed can be moved as a whole: no file holds PREFIX. The library goes to a folder of its own:
# oneCCL is told its path.
set -eu

if [ $# -lt 1 ] || [ $# -gt 2 ]; then
  echo "usage: $0 PREFIX [FOLDER]" >&2
  exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
to=${DESTDIR:-}$1
from=${2:-$root/target/release}
if [ ! -f "$from/libdure_oneccl.so" ]; then
  echo "$0: no libdure_oneccl.so in $from: build it with cargo build --release --package dure-oneccl" >&2
  exit 1
fi

mkdir -p "$to/include/dure-oneccl" "$to/lib/dure-oneccl" "$to/share/doc/dure-oneccl/examples"
install -m 644 "$here/include/dure_oneccl.h" "$to/include/dure-oneccl/"
install -m 755 "$from/libdure_oneccl.so" "$to/lib/dure-oneccl/"
install -m 644 "$root/LICENSE-APACHE" "$root/LICENSE-MIT" "$here/README.md" "$to/share/doc/dure-oneccl/"
install -m 644 "$here"/examples/*.c "$to/share/doc/dure-oneccl/examples/"
