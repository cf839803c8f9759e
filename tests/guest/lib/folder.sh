# What the host and its guests share: the folder of the run, with settings, the command and the results; and folders of the caller.

# write_folder: $work/guest, which guests see as /guest. Sets: shares.
write_folder() {
    local folder=$work/guest
    mkdir "$folder"
    cp -r "$here/inside/." "$folder"
    find_shares
    {
        printf '%s=%s\n' hosts "$hosts" links "$links" place "$place" rdma "$rdma" cxl "$cxl" layers "${layers[*]:-}" \
            clock_rate "$(sed -n 's/^cpu MHz.*: //p;T;q' /proc/cpuinfo)"
        printf 'shares=%s\n' "$(quoted "$(printf '%s\n' "${shares[@]}")")"
    } >"$folder/settings"
    write_command >"$folder/command"
}

# Guests see the repository, the working directory and the program's under the paths that they have here. Folders of the system are
# those of the image, and so is a command without a slash.
find_shares() {
    local folder folders=("$root" "${CARGO_TARGET_DIR:-$root/target}" "$PWD") program
    shares=()
    if [[ ${command[0]} == */* ]]; then
        program=$(command -v -- "${command[0]}") || {
            echo "guest: there is no program ${command[0]}" >&2
            exit 127
        }
        folder=$(cd "$(dirname "$program")" && pwd -P)
        folders+=("$folder")
        command[0]=$folder/${program##*/}
    fi
    for folder in "${folders[@]}"; do
        [ ! -d "$folder" ] || add_share "$(cd "$folder" && pwd -P)"
    done
}

# add_share FOLDER: unless it is the system's or is seen already.
add_share() {
    local known
    case ${1%/}/ in
    / | /tmp/ | /bin/* | /dev/* | /etc/* | /guest/* | /lib/* | /lib64/* | /proc/* | /run/* | /sbin/* | /sys/* | /usr/*) return ;;
    esac
    for known in "${shares[@]}"; do
        [[ $1/ != "$known"/* ]] || return 0
    done
    shares+=("$1")
}

# The program in the caller's directory, with those of the caller's variables that steer it.
write_command() {
    local name
    for name in $(compgen -e); do
        case $name in
        DURE_* | RUST_* | CARGO_MANIFEST_DIR | CARGO_TARGET_TMPDIR | UCX_* | OMPI_* | PRTE_* | PMIX_*)
            printf 'export %s=%s\n' "$name" "$(quoted "${!name}")"
            ;;
        esac
    done
    printf 'cd %s 2>/dev/null || cd /\n' "$(quoted "$(pwd -P)")"
    printf exec
    for name in "${command[@]}"; do
        printf ' %s' "$(quoted "$name")"
    done
    echo
}

# quoted TEXT: as one word of any shell.
quoted() {
    printf "'%s'" "${1//\'/\'\\\'\'}"
}
