# shellcheck shell=sh
# The kernel command line, read into lf_* variables. Pure: no file, no command, no mount.
# The parameters are listed in docs/BOOT.md; the tests are in initrd/tests.
#
#   lf_parse "$(cat /proc/cmdline)"   sets every variable below
#   lf_source                         prints the source for `layerfs mount`
#   lf_show                           prints the variables, one per line
#
# shellcheck disable=SC2034  # the variables are for the sourcing script

# Lists grow by one line per value.
lf_nl='
'

lf_defaults() {
    lf_root=          # "layerfs" when the root is ours
    lf_url=           # the address as given, "" = from automatic= or DHCP
    lf_rev=           # a revision number, "" = the latest
    lf_profile=       # from profile=
    lf_stage=         # from stagename=
    lf_upper=tmpfs    # none | tmpfs | LABEL=… | UUID=… | PARTUUID=… | /dev/…
    lf_upper_size=    # of a tmpfs upper
    lf_upper_kernel=  # yes: the kernel's overlayfs stacks the upper over the read-only mount
    lf_upper_optional= # yes: without the device, a tmpfs serves
    lf_mirror=        # list of further servers
    lf_cache=         # none | ram | LABEL=… | UUID=… | /dev/…
    lf_cache_size=    # of the cache in memory
    lf_backup=        # LABEL=… | UUID=… | /dev/…
    lf_prefetch=auto
    lf_timeout=0      # seconds without a server until reads fail; 0 = wait for ever
    lf_report=        # no: the fleet is not told of this machine
    lf_ring=          # the ring of this machine
    lf_values=        # MACHINE:NUMBER: the record of its values
    lf_debug=
    lf_shell=         # fail | start | mounted
    lf_panic=30       # seconds a failure stays on the screen before the reboot
    lf_init=/sbin/init
    lf_ro=
    lf_ip=            # list of ip= values
    lf_bootif=        # MAC address of the interface that netbooted
    lf_ifname=        # list of NAME:MAC
    lf_made=          # list of vlan=, bond=, bridge= and team=, which only dracut makes
    lf_route=         # list of NET:GATEWAY:IF
    lf_dns=           # list of name servers
    lf_hostname=
    lf_auto=          # automatic= was given
    lf_auto_method=
    lf_auto_server=
    lf_auto_directory=
    lf_auto_disk=     # LABEL=…, UUID=… or /dev/… of method:disk
    lf_warnings=      # list
    lf_error=         # the first thing that makes the command line unusable
}

lf_warning() { lf_warnings="${lf_warnings:+$lf_warnings$lf_nl}$1"; }
lf_wrong() { [ -n "$lf_error" ] || lf_error=$1; }

lf_is_number() {
    case $1 in '' | *[!0-9]*) return 1 ;; esac
}

# A size in the form of tmpfs: digits with k, m, g or %.
lf_is_size() {
    lf_digits=${1%[kKmMgG%]}
    lf_is_number "$lf_digits"
}

lf_is_device() {
    case $1 in
        LABEL=?* | UUID=?* | PARTUUID=?* | PARTLABEL=?* | /dev/?*) return 0 ;;
    esac
    return 1
}

lf_is_yes() {
    case $1 in '' | 1 | y | yes | on | true) return 0 ;; esac
    return 1
}

# lf_parse LINE
lf_parse() {
    lf_defaults
    lf_word=
    set -f
    for lf_piece in $1; do
        lf_word="${lf_word:+$lf_word }$lf_piece"
        lf_quotes_open "$lf_word" && continue
        [ "$lf_word" != -- ] || break     # what follows is for init
        lf_unquote
        lf_parameter "$lf_word"
        lf_word=
    done
    set +f
    lf_settle
}

# lf_quotes_open WORD: 0 = more words follow inside these double quotes.
lf_quotes_open() {
    lf_open=1
    lf_tail=$1
    while :; do
        case $lf_tail in
            *'"'*) lf_tail=${lf_tail#*\"}; lf_open=$((1 - lf_open)) ;;
            *) return "$lf_open" ;;
        esac
    done
}

# The kernel accepts quotes around the value or around the whole parameter.
lf_unquote() {
    lf_tail=$lf_word
    lf_word=
    while :; do
        case $lf_tail in
            *'"'*) lf_word=$lf_word${lf_tail%%\"*}; lf_tail=${lf_tail#*\"} ;;
            *) lf_word=$lf_word$lf_tail; return ;;
        esac
    done
}

# lf_parameter WORD: one parameter of the command line.
lf_parameter() {
    lf_value=${1#*=}
    [ "$lf_value" != "$1" ] || lf_value=
    case $1 in
        root=layerfs:* | netroot=layerfs:*) lf_root=layerfs; lf_url=${lf_value#layerfs:} ;;
        root=layerfs | root=/dev/layerfs | boot=layerfs) lf_root=layerfs ;;
        root=*) lf_root=${lf_value} ;;
        layerfs=*) lf_short "$lf_value" ;;
        layerfs.*) lf_own "$1" ;;
        automatic=*) lf_automatic "$lf_value" ;;
        profile=*) lf_profile=$lf_value ;;
        stagename=*) lf_stage=$lf_value ;;
        live_rw) lf_upper=LABEL=alt-live-storage; lf_upper_optional=yes ;;
        overlayroot=*) lf_overlayroot "$lf_value" ;;
        lowmem) lf_cache=ram; lf_cache_size=16m; lf_prefetch=no ;;
        hash=*) lf_warning "hash= is the checksum of a squashfs and is not used: a layerfs root is checked by its signature" ;;
        ip=*) lf_ip="${lf_ip:+$lf_ip$lf_nl}$lf_value" ;;
        ifname=*) lf_ifname="${lf_ifname:+$lf_ifname$lf_nl}$lf_value" ;;
        route=* | rd.route=*) lf_route="${lf_route:+$lf_route$lf_nl}$lf_value" ;;
        nameserver=*) lf_dns="${lf_dns:+$lf_dns$lf_nl}$lf_value" ;;
        vlan=* | bond=* | bridge=* | team=*) lf_made="${lf_made:+$lf_made }$1" ;;
        BOOTIF=*) lf_boot_interface "$lf_value" ;;
        init=*) lf_init=$lf_value ;;
        panic=*) lf_is_number "$lf_value" && [ "$lf_value" -gt 0 ] && lf_panic=$lf_value ;;
        ro) lf_ro=yes ;;
        rw) lf_ro= ;;
    esac
    return 0
}

# layerfs=URL[,option…]: the spelling of make-initrd and bootchain.
lf_short() {
    lf_root=layerfs
    lf_url=${1%%,*}
    lf_list=${1#"$lf_url"}
    while [ -n "$lf_list" ]; do
        lf_list=${lf_list#,}
        lf_item=${lf_list%%,*}
        lf_list=${lf_list#"$lf_item"}
        lf_value=${lf_item#*=}
        [ "$lf_value" != "$lf_item" ] || lf_value=
        lf_own "layerfs.$lf_item"
    done
}

# layerfs.NAME[=VALUE]; the value is in lf_value.
lf_own() {
    case $1 in
        layerfs.upper=*) lf_set_upper "$lf_value" ;;
        layerfs.kernel) lf_upper_kernel=yes ;;   # of layerfs=URL,upper=…,kernel
        layerfs.cache=*) lf_set_cache "$lf_value" ;;
        layerfs.backup=*)
            lf_backup=$lf_value
            lf_is_device "$lf_value" || lf_wrong "layerfs.backup=$lf_value: give LABEL=…, UUID=… or /dev/…" ;;
        layerfs.mirror=*) lf_mirror="${lf_mirror:+$lf_mirror$lf_nl}$lf_value" ;;
        layerfs.rev=*)
            lf_rev=$lf_value
            lf_is_number "$lf_value" || lf_wrong "layerfs.rev=$lf_value: a revision is a number" ;;
        layerfs.timeout=*)
            lf_timeout=$lf_value
            lf_is_number "$lf_value" || lf_wrong "layerfs.timeout=$lf_value: give seconds, 0 = wait for ever" ;;
        layerfs.prefetch | layerfs.prefetch=*)
            case $lf_value in
                auto | pack | all) lf_prefetch=$lf_value ;;
                *) if lf_is_yes "$lf_value"; then lf_prefetch=auto; else lf_prefetch=no; fi ;;
            esac ;;
        layerfs.report | layerfs.report=*) if lf_is_yes "$lf_value"; then lf_report=; else lf_report=no; fi ;;
        layerfs.ring=*)
            lf_ring=$lf_value
            case $lf_value in
                '' | *[!a-z0-9._-]* | [._-]*) lf_wrong "layerfs.ring=$lf_value: a ring is a name of a-z 0-9 . _ -" ;;
            esac ;;
        layerfs.values=*)
            lf_values=$lf_value
            case $lf_value in
                *:*[!0-9]* | *[!A-Za-z0-9._:-]* | [!A-Za-z0-9]* | *: ) lf_wrong "layerfs.values=$lf_value: the form is MACHINE:NUMBER" ;;
                *:*) ;;
                *) lf_wrong "layerfs.values=$lf_value: the form is MACHINE:NUMBER" ;;
            esac ;;
        # For the running system.
        layerfs.follow | layerfs.follow=*) ;;
        layerfs.debug | layerfs.debug=*) if lf_is_yes "$lf_value"; then lf_debug=yes; else lf_debug=; fi ;;
        layerfs.shell | layerfs.shell=*) lf_set_shell "$lf_value" ;;
        *) lf_warning "unknown parameter $1: ignored" ;;
    esac
}

lf_set_shell() {
    case $1 in
        fail | start | mounted) lf_shell=$1 ;;
        *) if lf_is_yes "$1"; then lf_shell=fail; else lf_shell=; fi ;;
    esac
}

lf_set_upper() {
    lf_upper_kernel=
    case $1 in
        none,kernel) lf_wrong "layerfs.upper=$1: kernel needs an upper" ;;
        *,kernel)
            lf_upper_kernel=yes
            set -- "${1%,kernel}" ;;
    esac
    lf_upper=$1
    case $1 in
        none | tmpfs) ;;
        tmpfs:*)
            lf_upper=tmpfs
            lf_upper_size=${1#tmpfs:}
            lf_is_size "$lf_upper_size" || lf_wrong "layerfs.upper=$1: a size is digits with k, m, g or %" ;;
        *) lf_is_device "$1" || lf_wrong "layerfs.upper=$1: give tmpfs[:size], none, LABEL=…, UUID=… or /dev/…" ;;
    esac
}

lf_set_cache() {
    lf_cache=$1
    case $1 in
        none | ram) ;;
        ram:*)
            lf_cache=ram
            lf_cache_size=${1#ram:}
            lf_is_size "${lf_cache_size%\%}" || lf_wrong "layerfs.cache=$1: a size is digits with k, m or g"
            case $lf_cache_size in *%) lf_wrong "layerfs.cache=$1: a size is digits with k, m or g" ;; esac ;;
        *) lf_is_device "$1" || lf_wrong "layerfs.cache=$1: give none, ram[:size], LABEL=…, UUID=… or /dev/…" ;;
    esac
}

lf_overlayroot() {
    case $1 in
        '' | disabled*) lf_upper=none ;;
        tmpfs*) lf_upper=tmpfs ;;
        *)
            lf_value=${1#device:dev=}
            lf_value=${lf_value%%,*}
            lf_set_upper "$lf_value" ;;
    esac
}

# BOOTIF=01-52-54-00-12-34-56 (pxelinux and iPXE), 01-52:54:00:12:34:56 (GRUB), or a plain MAC
# address. An invalid address (GRUB without a card writes 01-) names no card.
lf_boot_interface() {
    lf_bootif=
    lf_tail=$1
    case $lf_tail in ??[-:]??[-:]??[-:]??[-:]??[-:]??[-:]??) lf_tail=${lf_tail#???} ;; esac
    case $lf_tail in
        *[!0-9A-Fa-f:-]*) lf_tail= ;;
        ??[-:]??[-:]??[-:]??[-:]??[-:]??) ;;
        *) lf_tail= ;;
    esac
    while [ -n "$lf_tail" ]; do
        lf_head=${lf_tail%%[-:]*}
        lf_bootif=${lf_bootif:+$lf_bootif:}$lf_head
        lf_tail=${lf_tail#"$lf_head"}
        lf_tail=${lf_tail#[-:]}
    done
}

# automatic=key:value,key:value…: propagator's and altboot's spelling.
lf_automatic() {
    lf_auto=yes
    lf_static='' lf_net_if='' lf_net_ip='' lf_net_mask='' lf_net_gw='' lf_net_dns=''
    lf_list=$1
    while [ -n "$lf_list" ]; do
        lf_item=${lf_list%%,*}
        lf_list=${lf_list#"$lf_item"}
        lf_list=${lf_list#,}
        lf_value=${lf_item#*:}
        [ "$lf_value" != "$lf_item" ] || lf_value=
        lf_automatic_key "${lf_item%%:*}" "$lf_value"
    done
    if [ "$lf_static" = yes ]; then
        lf_ip="${lf_ip:+$lf_ip$lf_nl}$lf_net_ip::$lf_net_gw:$lf_net_mask:$lf_hostname:$lf_net_if:off${lf_net_dns:+:$lf_net_dns}"
    elif [ "$lf_static" = no ]; then
        lf_ip="${lf_ip:+$lf_ip$lf_nl}${lf_net_if:+$lf_net_if:}dhcp"
    fi
}

lf_automatic_key() {
    case $1 in
        method | met) lf_auto_method=$2 ;;
        server | ser) lf_auto_server=$2 ;;
        directory | dir) lf_auto_directory=$2 ;;
        network | net) if [ "$2" = static ]; then lf_static=yes; else lf_static=no; fi ;;
        interface | int) lf_net_if=$2 ;;
        ip) lf_net_ip=$2 ;;
        netmask) lf_net_mask=$2 ;;
        gateway) lf_net_gw=$2 ;;
        dns) lf_net_dns=$2 ;;
        hostname) lf_hostname=$2 ;;
        timeout) lf_is_number "$2" && lf_timeout=$2 ;;
        label) lf_auto_disk=LABEL=$2 ;;
        uuid) lf_auto_disk=UUID=$2 ;;
        disk | partition) lf_auto_disk=/dev/${2#/dev/} ;;
        overlays | user | pass | domain | imgsize | type | fuid) lf_warning "automatic=$1: has no meaning for a layerfs root: ignored" ;;
        *) lf_warning "automatic=$1: is not known: ignored" ;;
    esac
}

# After the last parameter: combines the parts.
lf_settle() {
    [ -n "$lf_auto" ] || return 0
    # The command line of an ALT netboot names its initramfs as the root, or none. If
    # only layerfs roots can be booted (lf_only, set by our own /init), automatic= is sufficient.
    case ${lf_only:+yes}$lf_root in yes | yesbootchain | yespipeline) lf_root=layerfs ;; esac
    case $lf_auto_method in
        '' | layerfs | http) ;;
        disk)
            if [ -z "$lf_backup" ]; then
                lf_backup=$lf_auto_disk
            fi
            [ -n "$lf_backup" ] || lf_wrong "automatic=method:disk: name the disk with label:, uuid: or disk:" ;;
        *)
            # A root that is not ours may well come from there: only ours is refused.
            [ "$lf_root" != layerfs ] || lf_wrong "automatic=method:$lf_auto_method: a layerfs root comes by http (what it brings is verified by signature) or from a disk" ;;
    esac
    [ -n "$lf_root" ] || [ "$lf_auto_method" != layerfs ] || lf_root=layerfs
}

# lf_source [SERVER]: prints SCHEME://HOST/SYSTEM[/PROFILE][@REV] for `layerfs mount`.
# SERVER is the next-server from DHCP, for a command line without a server. Returns 1 and prints
# the reason if there is none.
lf_source() {
    lf_at=
    lf_scheme=http
    case $lf_url in
        file:/*) echo "${lf_url#file:}"; return 0 ;;     # layers on a disk, top first
    esac
    if [ -n "$lf_url" ] && [ "$lf_url" != auto ]; then
        lf_path=$lf_url
    else
        lf_path=${lf_auto_directory%/}
        lf_path=${lf_path##*/}
        [ -n "$lf_path" ] || lf_path=current
        case $lf_stage in '' | live) ;; *) lf_path=$lf_path-$lf_stage ;; esac
    fi
    case $lf_path in
        *://*)
            lf_scheme=${lf_path%%://*}
            lf_path=${lf_path#*://}
            lf_host=${lf_path%%/*}
            lf_path=${lf_path#"$lf_host"}
            lf_path=${lf_path#/} ;;
        *) lf_host=${lf_auto_server:-${1-}} ;;
    esac
    lf_path=${lf_path#/}
    lf_path=${lf_path%/}
    case $lf_path in *@*) lf_at=@${lf_path##*@}; lf_path=${lf_path%@*} ;; esac
    [ -z "$lf_rev" ] || lf_at=@$lf_rev
    [ -n "$lf_host" ] || { echo "no server: give root=layerfs:http://SERVER/SYSTEM, or a next-server by DHCP"; return 1; }
    [ -n "$lf_path" ] || { echo "no system in $lf_url: give root=layerfs:http://SERVER/SYSTEM"; return 1; }
    case $lf_path in
        */*) ;;
        *) lf_path=$lf_path${lf_profile:+/$lf_profile} ;;
    esac
    echo "$lf_scheme://$lf_host/$lf_path$lf_at"
}

# lf_source_without_profile [SERVER]: prints the base, for a missing profile=.
lf_source_without_profile() (
    lf_profile=
    lf_source "$@"
)

# lf_show: prints every set variable, for tests and layerfs.debug.
lf_show() {
    for lf_name in root url rev profile stage upper upper_size upper_optional upper_kernel mirror cache cache_size backup \
        prefetch timeout report ring values debug shell panic init ro ip bootif ifname route dns hostname \
        auto auto_method auto_server auto_directory auto_disk warnings error; do
        eval "lf_value=\$lf_$lf_name"
        [ -z "$lf_value" ] || echo "$lf_name=$lf_value"
    done
}
