# Open MPI with UCX, as a second archive behind the first, so that the everyday image stays small.

# Packages that only plug-ins for graphics processors, displays and ssh need; the plug-ins are not loaded without them.
for_others=(libllvm libamd libz3 libhs libze1 libdrm libhwloc-plugins libxnvctrl libx11 libxcb libxau libxdmcp libxext openssh)

# all.cpio: the archive in the folder $image with this layer behind it.
make_openmpi() {
    local name file tree=$1/tree
    prepare_apt
    fetch "$1/packages" trixie openmpi-bin libopenmpi40 libucx0 ucx-utils
    for name in "${for_others[@]}"; do
        rm -f "$1/packages/$name"*
    done
    unpack "$1/packages" "$tree"
    # Its settings and help texts are in a package for all architectures.
    dpkg-deb -x "$1"/packages/openmpi-common_*.deb "$tree"
    ln -s mpirun.openmpi "$tree/usr/bin/mpirun"
    # What the first archive has, it has once.
    (cd "$tree" && cpio -it --quiet <"$image/base.cpio" | while read -r file; do
        [ -d "$file" ] && [ ! -L "$file" ] || rm -f "$file"
    done)
    pack "$tree" "$1/layer.cpio"
    cat "$image/base.cpio" "$1/layer.cpio" >"$1/all.cpio"
    rm -rf "$1/packages" "$tree" "$1/layer.cpio"
}
