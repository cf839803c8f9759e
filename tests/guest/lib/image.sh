# The kernel, and the file system that it boots, from Debian packages.

# The suite of the kernel, because earlier kernels' rxe does not know network namespaces.
kernel_suite=trixie-backports
tools=(busybox-static bash dash iproute2 iputils-ping kmod strace ibverbs-providers ibverbs-utils rdmacm-utils perftest ndctl
    daxctl cxl libstdc++6 coreutils findutils util-linux)
# Commands that start others. Those of busybox would start its own applets rather than iproute2's `ip` or dash.
starters=(env flock nice nohup nsenter setpriv setsid stdbuf libstdbuf.so taskset timeout unshare xargs)
modules=(9p 9pnet_virtio virtio_net veth bridge dummy sch_netem sch_tbf ib_umad ib_uverbs rdma_ucm rdma_rxe cxl_acpi cxl_pci
    cxl_port cxl_mem dax_cxl device_dax)

# vmlinux and base.cpio.
make_image() {
    local version tree=$1/tree
    prepare_apt
    version=$(debian apt-cache depends -t "$kernel_suite" linux-image-amd64 |
        sed -n 's/.*Depends: linux-image-\([0-9].*-amd64\)$/\1/p')
    fetch_kernel "$1" "$version"
    extract_kernel "$(find "$1/kernel" -name 'vmlinuz*' -type f)" "$1/vmlinux"
    fetch "$1/packages" trixie "${tools[@]}"
    make_tree "$1/packages" "$tree"
    add_modules "$1/kernel" "$version" "$tree"
    pack "$tree" "$1/base.cpio"
    rm -rf "$1/packages" "$1/kernel" "$tree"
}

# Kernels from 7 on come in several packages.
fetch_kernel() {
    if debian apt-cache show "linux-binary-$2" >/dev/null 2>&1; then
        fetch_alone "$1/packages" "linux-base-$2" "linux-binary-$2" "linux-modules-$2"
    else
        fetch_alone "$1/packages" "linux-image-$2"
    fi
    local file
    for file in "$1"/packages/*.deb; do
        dpkg-deb -x "$file" "$1/kernel"
    done
    rm -rf "$1/packages"
    [ -d "$1/kernel/lib" ] || ln -s usr/lib "$1/kernel/lib"
}

# extract_kernel FROM INTO: the kernel proper, which boots sooner than one that decompresses itself under emulation.
extract_kernel() {
    local at
    for at in $(LC_ALL=C grep -aboP '\x28\xb5\x2f\xfd' "$1" | cut -d: -f1); do
        # What follows the compressed part makes zstd fail in the end.
        tail -c "+$((at + 1))" "$1" | zstd -dcq >"$2" 2>/dev/null || true
        [ "$(head -c 4 "$2" | od -An -tx1)" != " 7f 45 4c 46" ] || return 0
    done
    echo "no compressed kernel in $1" >&2
    return 1
}

make_tree() {
    local name applet
    mkdir -p "$2"/usr/{bin,sbin,lib,lib64} "$2"/{etc,proc,sys,dev,tmp,run,root,var,guest}
    for name in bin sbin lib lib64; do
        ln -s "usr/$name" "$2/$name"
    done
    ln -s /run "$2/var/run"
    unpack "$1" "$2"
    keep_starters "$1" "$2"
    # Not the shell of busybox, which prefers its own `ip` to that of iproute2.
    ln -sf dash "$2/usr/bin/sh"
    for applet in $("$2/usr/bin/busybox" --list); do
        [ -e "$2/usr/bin/$applet" ] || [ -e "$2/usr/sbin/$applet" ] || ln -s busybox "$2/usr/bin/$applet"
    done
    echo 'root:x:0:0::/root:/bin/sh' >"$2/etc/passwd"
    echo 'root:x:0:' >"$2/etc/group"
    install -m 755 "$here/inside/init" "$2/init"
}

# keep_starters PACKAGES TREE: busybox has the rest of these packages in less space.
keep_starters() {
    local package file
    for package in coreutils findutils util-linux; do
        dpkg-deb --fsys-tarfile "$1/$package"_*.deb | tar -t | while read -r file; do
            [[ " ${starters[*]} " == *" ${file##*/} "* || -d $2/$file ]] || rm -f "$2/$file"
        done
    done
}

# add_modules KERNEL VERSION TREE: those named above with what they need. Decompressed and without their signatures, because
# both are slow under emulation.
add_modules() {
    local from=$1 version=$2 into=$3/usr/lib/modules/$2 module file target
    mkdir -p "$into"
    depmod -b "$from" "$version"
    cp "$from/lib/modules/$version"/modules.{order,builtin,builtin.modinfo} "$into"
    for module in "${modules[@]}"; do
        modprobe -d "$from" -S "$version" --show-depends "$module" | sed -n 's/^insmod \([^ ]*\).*/\1/p'
    done | sort -u | while read -r file; do
        target=$into/${file##*/modules/"$version"/}
        mkdir -p "${target%/*}"
        case $file in
        *.xz) xz -dc "$file" >"${target%.xz}" ;;
        *.zst) zstd -qdc "$file" >"${target%.zst}" ;;
        *) cp "$file" "$target" ;;
        esac
    done
    find "$into" -name '*.ko' -exec strip --strip-debug {} +
    sed -i 's/\.ko\.[a-z0-9]*$/.ko/' "$into/modules.order"
    depmod -b "$3" "$version"
}
