# QEMU, from Debian packages.

# From 11.1 on, which trixie does not have, CXL memory is fast and its atomics hold between machines.
qemu_suite=trixie-backports

# QEMU with its libraries, run by its own dynamic loader.
make_qemu() {
    prepare_apt
    fetch "$1/packages" "$qemu_suite" qemu-system-x86
    local file
    for file in "$1"/packages/*.deb; do
        dpkg-deb -x "$file" "$1"
    done
    rm -rf "$1/packages" "$1/usr/share/doc" "$1/usr/share/man"
}
