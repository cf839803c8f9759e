# The network between several machines: bridges in a namespace that is gone with its last process.

inside_network=()

# The management network is bridge0, the links' are bridge1 and on. Sets: inside_network, the command that goes in.
make_network() {
    local bridge spaces=(--net)
    "$root/.ci/setup" ip unshare
    [ "$(id -u)" = 0 ] || spaces+=(--user --map-root-user)
    [ -w /dev/net/tun ] || {
        echo "guest: --place machines needs /dev/net/tun: run it as root, or allow this user to use it" >&2
        exit 125
    }
    exec {ready}< <(exec setpriv --pdeathsig KILL unshare "${spaces[@]}" sh -c 'echo ready && exec sleep infinity')
    network=$!
    read -r -u "$ready" || {
        echo "guest: no network namespace can be made: run it as root, or allow users to make namespaces" >&2
        exit 125
    }
    inside_network=(nsenter --target "$network" --net)
    [ "$(id -u)" = 0 ] || inside_network+=(--user --preserve-credentials)
    for ((bridge = 0; bridge <= links; bridge++)); do
        "${inside_network[@]}" ip link add "bridge$bridge" mtu 9000 up type bridge
    done
}

# interfaces MACHINE: sets arguments of QEMU to those of its interfaces.
interfaces() {
    local bridge name mac
    arguments=()
    for ((bridge = 0; bridge <= links; bridge++)); do
        name=m$1n$bridge
        mac=$(printf '52:54:00:77:%02x:%02x' "$bridge" "$1")
        "${inside_network[@]}" ip tuntap add "$name" mode tap vnet_hdr
        "${inside_network[@]}" ip link set "$name" mtu 9000 master "bridge$bridge" up
        arguments+=(-netdev "tap,id=net$bridge,ifname=$name,script=no,downscript=no" -device
            "virtio-net-pci,bus=pcie.0,netdev=net$bridge,romfile=,host_mtu=9000,mac=$mac")
    done
}
