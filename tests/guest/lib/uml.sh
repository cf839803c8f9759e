# User-mode Linux with rxe and siw: a kernel that is a program, from the source that Debian packages. Debian's own has no RDMA.

# Several processors need a kernel from 7 on.
uml_suite=trixie-backports

# linux: the kernel. Takes minutes, 170 MB of packages, and 2 GB until it is done.
make_uml() {
    local source tree=$1/source option
    prepare_apt
    "$root/.ci/setup" bc bison cc flex make
    source=$(debian apt-cache depends -t "$uml_suite" linux-source | sed -n 's/.*Depends: //p')
    fetch_alone "$1/packages" "$source"
    mkdir "$tree"
    dpkg-deb --fsys-tarfile "$1/packages/$source"_*.deb | tar -xO --wildcards "*/$source.tar.xz" |
        tar -xJ --strip-components=1 -C "$tree"
    make -s -C "$tree" ARCH=um KCONFIG_ALLCONFIG="$here/lib/uml.config" allnoconfig
    for option in RDMA_RXE RDMA_SIW SMP HOSTFS BLK_DEV_INITRD NET_SCH_NETEM VETH BRIDGE IPC_NS; do
        grep "^CONFIG_$option=y" "$tree/.config"
    done
    make -s -C "$tree" ARCH=um -j"$(nproc)" linux
    strip -o "$1/linux" "$tree/linux"
    rm -rf "$1/packages" "$tree"
}
