# Open MPI with UCX, as a second archive behind the first, so that the everyday image stays small.

# all.cpio: the archive in the folder $image with this layer behind it.
make_openmpi() {
    prepare_apt
    fetch "$1/packages" trixie openmpi-bin libopenmpi40 libucx0 ucx-utils
    unpack "$1/packages" "$1/tree"
    # Its settings and help texts are in packages for all architectures.
    local file
    for file in "$1"/packages/openmpi-common_*.deb; do
        dpkg-deb -x "$file" "$1/tree"
    done
    # What the first archive has, it has once.
    (cd "$1/tree" && cpio -it --quiet <"$image/base.cpio" | while read -r file; do
        [ -d "$file" ] && [ ! -L "$file" ] || rm -f "$file"
    done)
    pack "$1/tree" "$1/layer.cpio"
    cat "$image/base.cpio" "$1/layer.cpio" >"$1/all.cpio"
    rm -rf "$1/packages" "$1/tree" "$1/layer.cpio"
}
