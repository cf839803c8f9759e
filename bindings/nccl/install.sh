#!/bin/sh
# Installs libnccl.so.2 of Dure: install.sh PREFIX [FOLDER]
#
# FOLDER is where libnccl.so lies: target/release of the workspace unless given. DESTDIR is put before PREFIX, for
# packagers. What is installed can be moved as a whole: no file holds PREFIX.
#
# Library and header go to folders of their own, where no compiler, linker or loader looks unless told to: a program gets
# Dure in place of NCCL because somebody wants it to.
set -eu

if [ $# -lt 1 ] || [ $# -gt 2 ]; then
  echo "usage: $0 PREFIX [FOLDER]" >&2
  exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
to=${DESTDIR:-}$1
from=${2:-$root/target/release}
if [ ! -f "$from/libnccl.so" ]; then
  echo "$0: no libnccl.so in $from: build it with cargo build --release --package dure-nccl" >&2
  exit 1
fi

number() { sed -n "s/^#define NCCL_$1 //p" "$here/include/nccl.h"; }
version=$(number MAJOR).$(number MINOR).$(number PATCH)

mkdir -p "$to/include/dure-nccl" "$to/lib/dure-nccl" "$to/lib/pkgconfig" "$to/share/doc/dure-nccl/examples"
install -m 644 "$here/include/nccl.h" "$to/include/dure-nccl/"
install -m 755 "$from/libnccl.so" "$to/lib/dure-nccl/libnccl.so.2"
ln -sfn libnccl.so.2 "$to/lib/dure-nccl/libnccl.so"
sed -e "s/@VERSION@/$version/g" "$here/install/dure-nccl.pc" > "$to/lib/pkgconfig/dure-nccl.pc"
install -m 644 "$root/LICENSE-APACHE" "$root/LICENSE-MIT" "$here/README.md" "$to/share/doc/dure-nccl/"
install -m 644 "$here"/examples/*.c "$to/share/doc/dure-nccl/examples/"
