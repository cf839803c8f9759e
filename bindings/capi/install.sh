#!/bin/sh
# Installs Dure's C interface: install.sh PREFIX [FOLDER]
#
# FOLDER is where libdure.so lies: target/release of the workspace unless given. DESTDIR is put before PREFIX, for
# packagers. What is installed can be moved as a whole: no file holds PREFIX.
set -eu

if [ $# -lt 1 ] || [ $# -gt 2 ]; then
  echo "usage: $0 PREFIX [FOLDER]" >&2
  exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
to=${DESTDIR:-}$1
from=${2:-$root/target/release}
if [ ! -f "$from/libdure.so" ]; then
  echo "$0: no libdure.so in $from: build it with cargo build --release --package dure-capi" >&2
  exit 1
fi

number() { sed -n "s/^#define DURE_$1 //p" "$here/include/dure.h"; }
major=$(number MAJOR) minor=$(number MINOR) patch=$(number PATCH)
version=$major.$minor.$patch
# As build.rs has it: minor versions may break the interface until 1.0.
if [ "$major" = 0 ]; then abi=0.$minor; else abi=$major; fi

fill() { sed -e "s/@VERSION@/$version/g" -e "s/@ABI@/$abi/g" "$here/install/$1" > "$2/$1"; }

mkdir -p "$to/include" "$to/lib/pkgconfig" "$to/lib/cmake/Dure" "$to/share/doc/dure/examples"
install -m 644 "$here/include/dure.h" "$to/include/"
install -m 755 "$from/libdure.so" "$to/lib/libdure.so.$version"
[ "$abi" = "$version" ] || ln -sfn "libdure.so.$version" "$to/lib/libdure.so.$abi"
ln -sfn "libdure.so.$abi" "$to/lib/libdure.so"
fill dure.pc "$to/lib/pkgconfig"
fill DureConfig.cmake "$to/lib/cmake/Dure"
fill DureConfigVersion.cmake "$to/lib/cmake/Dure"
install -m 644 "$root/LICENSE-APACHE" "$root/LICENSE-MIT" "$here/README.md" "$to/share/doc/dure/"
install -m 644 "$here"/examples/*.c "$here"/examples/*.h "$to/share/doc/dure/examples/"
