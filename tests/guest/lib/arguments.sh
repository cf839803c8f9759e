# What the caller asked for. Sets: hosts, links, place, rdma, cxl, limit, layers, command.

hosts=2 links=1 place="" rdma=rxe cxl="" limit=120 layers=() command=()

usage() {
    cat <<'TEXT'
usage: tests/guest/run [OPTION...] -- PROGRAM [ARGUMENT...]
  --hosts N       hosts, each of which runs the program once: 1 to 16 (default 2)
  --links N       RDMA links of each host, each with a device of its own: 1 to 4 (default 1)
  --place PLACE   namespaces: one QEMU machine, a network namespace for each host (default)
                  machines: a QEMU machine for each host
                  uml: user-mode Linux, a network namespace for each host
  --rdma KIND     rxe: software RoCE (default); siw: software iWARP, with --place uml --hosts 1
  --cxl MB        a CXL memory that all hosts share, a multiple of 256 up to 16384; means --place machines
  --with LAYER    adds to the image: openmpi (Open MPI with UCX)
  --timeout S     seconds until everything is stopped: 1 to 86400 (default 120)
Exit status: the first of the hosts' that is not 0; 124 after the time-out; 125 when a machine died; 2 for bad arguments.
TEXT
}

# refuse SENTENCE: the way out for arguments that make no sense.
refuse() {
    echo "tests/guest/run: $1" >&2
    exit 2
}

# number FLAG VALUE LEAST MOST
number() {
    if ! [[ $2 =~ ^[1-9][0-9]{0,8}$ ]] || [ "$2" -lt "$3" ] || [ "$2" -gt "$4" ]; then
        refuse "$1 takes a whole number from $3 to $4, not '$2'"
    fi
}

# one_of FLAG VALUE WORD...
one_of() {
    local word
    for word in "${@:3}"; do
        [ "$word" != "$2" ] || return 0
    done
    refuse "$1 takes $(printf '%s\n' "${@:3}" | paste -sd '|' | sed 's/|/ or /g'), not '$2'"
}

read_arguments() {
    while [ $# -gt 0 ]; do
        case $1 in
        --help) usage && exit 0 ;;
        --) shift && break ;;
        --hosts | --links | --place | --rdma | --cxl | --with | --timeout)
            [ $# -gt 1 ] || refuse "$1 needs a value"
            set_option "$1" "$2"
            shift 2
            ;;
        -*) refuse "there is no $1: only --hosts, --links, --place, --rdma, --cxl, --with, --timeout and --help" ;;
        *) break ;;
        esac
    done
    command=("$@")
    [ ${#command[@]} -gt 0 ] || refuse "a program to run is missing: give it after --"
    check_together
}

set_option() {
    case $1 in
    --hosts) number "$1" "$2" 1 16 && hosts=$2 ;;
    --links) number "$1" "$2" 1 4 && links=$2 ;;
    --place) one_of "$1" "$2" namespaces machines uml && place=$2 ;;
    --rdma) one_of "$1" "$2" rxe siw && rdma=$2 ;;
    --cxl)
        number "$1" "$2" 256 16384
        [ $(($2 % 256)) = 0 ] || refuse "--cxl takes a multiple of 256, not '$2'"
        cxl=$2
        ;;
    --with) one_of "$1" "$2" openmpi && layers+=("$2") ;;
    --timeout) number "$1" "$2" 1 86400 && limit=$2 ;;
    esac
}

# What each flag allows may still not go together.
check_together() {
    if [ -n "$cxl" ]; then
        [ "${place:=machines}" = machines ] || refuse "--cxl is offered by --place machines only, not '$place'"
    fi
    : "${place:=namespaces}"
    # Debian's kernels are built without siw, and siw does not connect network namespaces.
    [ "$rdma" != siw ] || [ "$place $hosts" = "uml 1" ] || refuse "--rdma siw is offered with --place uml --hosts 1 only"
    # mpirun starts its daemons from host to host, which machines without ssh do not allow.
    [ ${#layers[@]} = 0 ] || [ "$place" != machines ] ||
        refuse "--with openmpi is offered by --place namespaces or uml, not 'machines'"
}
