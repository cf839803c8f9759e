# Machines: how they start, what is heard of them, and how they end.

machines=() followers=() network="" timer="" late=""

start_machines() {
    local machine count=1
    [ "$place" != machines ] || { count=$hosts && make_network; }
    [ -z "$cxl" ] || make_cxl
    for ((machine = 0; machine < count; machine++)); do
        if [ "$place" = uml ]; then
            start_uml
        else
            start_qemu "$machine"
        fi
        machines+=($!)
    done
    follow
}

# A file without a name, which nobody has to remove. Sets: cxl_file.
make_cxl() {
    local name folder=/dev/shm
    [ -w "$folder" ] || folder=$work
    name=$(mktemp "$folder/guest-cxl.XXXXXX")
    exec {cxl_file}<>"$name"
    rm "$name"
    truncate -s "${cxl}M" "/proc/self/fd/$cxl_file"
}

# start_qemu MACHINE: in the background, ended with this script even if that is killed.
start_qemu() {
    local loader=$qemu/usr/lib64/ld-linux-x86-64.so.2 libraries=$qemu/usr/lib/x86_64-linux-gnu share id=0
    local board=q35 append="console=ttyS0 quiet panic=-1 mitigations=off nokaslr init_on_alloc=0 tsc=reliable guest.machine=$1"
    arguments=()
    [ "$place" != machines ] || interfaces "$1"
    [ -z "$cxl" ] || cxl_device "$1"
    for share in "$work/guest" "${shares[@]}"; do
        # A comma in a value is doubled.
        arguments+=(-fsdev "local,path=${share//,/,,},security_model=none,id=share$id,multidevs=remap"
            -device "virtio-9p-pci,bus=pcie.0,fsdev=share$id,mount_tag=share$id")
        id=$((id + 1))
    done
    # Without the hypervisor's bit, because CXL regions do not commit under one.
    QEMU_MODULE_DIR=$libraries/qemu "${inside_network[@]}" setpriv --pdeathsig KILL \
        "$loader" --library-path "$libraries" "$qemu/usr/bin/qemu-system-x86_64" \
        -L "$qemu/usr/share/qemu" -L "$qemu/usr/share/seabios" -accel tcg,thread=multi,tb-size=256 -cpu max,-hypervisor \
        -M "$board" -m "$memory,maxmem=64G,slots=4" -smp "$(processors)" -nodefaults -display none -no-reboot \
        -kernel "$kernel" -initrd "$archive" -append "$append" -serial "file:$work/console.$1" "${arguments[@]}" \
        </dev/null 2>"$work/machine.$1" &
}

# start_uml: in the background, with a process namespace of its own, because it has many processes.
start_uml() {
    local spaces=(--pid)
    [ "$(id -u)" = 0 ] || spaces+=(--user --map-root-user)
    TMPDIR=/dev/shm setpriv --pdeathsig KILL unshare "${spaces[@]}" --fork --kill-child \
        "$kernel" "mem=${memory}M" "ncpus=$(processors)" seccomp=auto "initrd=$archive" "uml_dir=$work/" con0=fd:0,fd:1 \
        console=tty0 quiet panic=-1 "guest.folder=$work/guest" </dev/null >"$work/console.0" 2>"$work/machine.0" &
}

# MiB of a machine; those that are not touched cost nothing.
memory=2048

# One processor a machine where several share the cores. Two at least where machines share memory: emulated atomics of a machine
# with one processor are no atomics for the others.
processors() {
    local cores
    cores=$(nproc)
    if [ "$place" = machines ] && [ "$hosts" -gt 1 ]; then
        cores=$((cores / hosts))
        [ -z "$cxl" ] || [ "$cores" -ge 2 ] || cores=2
        [ "$cores" -ge 1 ] || cores=1
    else
        [ "$cores" -ge 2 ] || cores=2
    fi
    echo $((cores < 8 ? cores : 8))
}

# cxl_device MACHINE: adds to board and arguments one memory device behind one port. With a bridge of this kind every other PCI device
# has to name its bus.
cxl_device() {
    board+=,cxl=on,cxl-fmw.0.targets.0=cxl.1,cxl-fmw.0.size=${cxl}M
    arguments+=(-object "memory-backend-file,id=cxlmem,share=on,mem-path=/proc/self/fd/$cxl_file,size=${cxl}M"
        -device pxb-cxl,bus_nr=12,bus=pcie.0,id=cxl.1 -device cxl-rp,port=0,bus=cxl.1,id=port0,chassis=0,slot=2
        -device "cxl-type3,bus=port0,volatile-memdev=cxlmem,id=cxl0,sn=$(($1 + 1))")
}

# Passes on what the programs say as they say it, with the host's number in front where there are several.
follow() {
    local host stream machine
    for ((host = 0; host < hosts; host++)); do
        machine=${machines[host < ${#machines[@]} ? host : 0]}
        : >"$work/guest/out.$host"
        : >"$work/guest/err.$host"
        follow_one "$host" "$work/guest/out.$host" "$machine" &
        followers+=($!)
        follow_one "$host" "$work/guest/err.$host" "$machine" >&2 &
        followers+=($!)
    done
}

follow_one() {
    if [ "$hosts" = 1 ]; then
        exec tail -s 0.1 -n +1 -f --pid="$3" "$2"
    fi
    tail -s 0.1 -n +1 -f --pid="$3" "$2" | sed -u "s/^/host $1: /"
}

# Until all machines are off, or the time is over. Sets: late.
wait_for_machines() {
    local ended remaining=("${machines[@]}") i
    setpriv --pdeathsig KILL sleep "$limit" &
    timer=$!
    while [ ${#remaining[@]} -gt 0 ]; do
        wait -n -p ended "${remaining[@]}" "$timer" || true
        [ "$ended" != "$timer" ] || { late=1 && break; }
        for i in "${!remaining[@]}"; do
            [ "${remaining[i]}" != "$ended" ] || unset "remaining[$i]"
        done
        note_death "$ended"
    done
    stop_machines
}

# note_death PID: the other machines wait for a word of this one.
note_death() {
    local machine
    [ "$place" = machines ] || return 0
    for machine in "${!machines[@]}"; do
        [ "${machines[machine]}" != "$1" ] || [ -f "$work/guest/status.$machine" ] || : >"$work/guest/status.$machine"
    done
}

# What the machines have said is passed on to the end.
stop_machines() {
    local process
    for process in "${machines[@]}" $timer $network; do
        kill -KILL "$process" 2>/dev/null || true
    done
    wait "${machines[@]}" "${followers[@]}" 2>/dev/null || true
    machines=() followers=() network="" timer=""
}

# The way out: what the hosts' programs ended with.
report() {
    local host status result=0
    for ((host = 0; host < hosts; host++)); do
        status=$(cat "$work/guest/status.$host" 2>/dev/null) || true
        [ -n "$status" ] || status=$(explain_silence "$host")
        [ "$result" != 0 ] || result=$status
    done
    exit "$result"
}

# explain_silence HOST: says why there is no status, and prints the one that stands for it.
explain_silence() {
    local machine=0
    [ "$place" != machines ] || machine=$1
    if [ -n "$late" ]; then
        echo "guest: host $1 had not ended after $limit s" >&2
        echo 124
    else
        echo "guest: the machine of host $1 died; its last words:" >&2
        tail -n 5 "$work/machine.$machine" "$work/console.$machine" >&2 || true
        echo 125
    fi
}
