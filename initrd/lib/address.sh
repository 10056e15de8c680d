# shellcheck shell=sh
# ip=, ifname=, route= and network masks, read into variables. Pure, like cmdline.sh.
#
#   lf_ip_record VALUE   reads one ip= value into ipr_* (1 = invalid, ipr_error is set)
#
# Three families of spelling are in use; all are accepted:
#   dhcp | on | any | dhcp4 | dhcp6 | auto6 | off | none
#   IF:dhcp[:MTU[:MAC]]                                          (dracut, make-initrd)
#   IP:[PEER]:[GW]:[MASK]:[HOST]:[IF]:[METHOD][:MTU[:MAC]]       (the same)
#   IP:[PEER]:[GW]:[MASK]:[HOST]:[IF]:[METHOD][:DNS1[:DNS2…]]    (the kernel, initramfs-tools)
# An IPv6 address is in brackets.
#
# shellcheck disable=SC2034  # the variables are for the sourcing script

# lf_field: moves the first field of lf_left to lf_head.
lf_field() {
    case $lf_left in
        \[*\]*)
            lf_head=${lf_left%%\]*}
            lf_head=${lf_head#\[}
            lf_left=${lf_left#*\]}
            case $lf_left in
                /*) lf_head=$lf_head${lf_left%%:*}; lf_left=${lf_left#"${lf_left%%:*}"} ;;
            esac
            lf_left=${lf_left#:} ;;
        *:*) lf_head=${lf_left%%:*}; lf_left=${lf_left#*:} ;;
        *) lf_head=$lf_left; lf_left= ;;
    esac
}

# lf_method WORD: prints dhcp, auto6, static or off; 1 = not a method.
lf_method() {
    case $1 in
        dhcp | on | any | dhcp4 | both | bootp | rarp | single-dhcp | either6) echo dhcp ;;
        dhcp6 | auto6 | ra) echo auto6 ;;
        static) echo static ;;
        off | none) echo off ;;
        *) return 1 ;;
    esac
}

lf_ip_record() {
    ipr_if='' ipr_method='' ipr_addr='' ipr_prefix='' ipr_peer='' ipr_gw='' ipr_host=''
    ipr_dns='' ipr_mtu='' ipr_mac='' ipr_error=''
    case $1 in
        *:*) ;;
        *)
            ipr_method=$(lf_method "${1:-dhcp}") && return 0
            lf_ip_single "$1"
            return ;;
    esac
    lf_left=$1
    lf_field
    lf_first=$lf_head
    case $lf_first in
        '' | *.*.*.* | *:*) lf_ip_long ;;
        *)
            ipr_if=$lf_first
            lf_field
            ipr_method=$(lf_method "$lf_head") || { ipr_error="ip=$1: $lf_head is no method (dhcp, auto6, off)"; return 1; }
            lf_ip_tail ;;
    esac
    [ -z "$ipr_error" ] || { ipr_error="ip=$1: $ipr_error"; return 1; }
}

# ip=ADDRESS[/PREFIX] alone.
lf_ip_single() {
    case $1 in
        *.*.*.* | \[*) ;;
        *) ipr_error="ip=$1: neither a method (dhcp, auto6, off) nor an address"; return 1 ;;
    esac
    lf_left=$1
    lf_field
    lf_first=$lf_head
    ipr_method=static
    lf_ip_address ''
    [ -z "$ipr_error" ] || { ipr_error="ip=$1: $ipr_error"; return 1; }
}

lf_ip_long() {
    lf_field; ipr_peer=$lf_head
    lf_field; ipr_gw=$lf_head
    lf_field; lf_mask=$lf_head
    lf_field; ipr_host=$lf_head
    lf_field; ipr_if=$lf_head
    lf_field
    ipr_method=$(lf_method "${lf_head:-off}") || { ipr_error="$lf_head is no method (dhcp, auto6, off)"; return; }
    if [ -n "$lf_first" ]; then
        case $ipr_method in off) ipr_method=static ;; esac
        lf_ip_address "$lf_mask"
    elif [ -z "$lf_head" ]; then
        ipr_method=dhcp
    fi
    [ -n "$ipr_error" ] || lf_ip_tail
}

# The address is in lf_first, the mask is an argument or follows a slash.
lf_ip_address() {
    ipr_addr=${lf_first%%/*}
    lf_mask=${1:-}
    case $lf_first in */*) lf_mask=${lf_first#*/} ;; esac
    if [ -z "$lf_mask" ]; then
        case $ipr_addr in *:*) lf_mask=64 ;; *) lf_mask=24 ;; esac
    fi
    ipr_prefix=$(lf_prefix "$lf_mask") || ipr_error="$lf_mask is no network mask"
}

# The fields after the method: MTU and MAC, or name servers.
lf_ip_tail() {
    case $lf_left in
        '') ;;
        *.* | \[*) lf_ip_servers ;;
        *)
            lf_field; ipr_mtu=$lf_head
            ipr_mac=$lf_left ;;
    esac
}

lf_ip_servers() {
    while [ -n "$lf_left" ]; do
        lf_field
        [ -z "$lf_head" ] || ipr_dns="${ipr_dns:+$ipr_dns }$lf_head"
    done
}

# lf_prefix MASK: 255.255.255.0 or 24 → 24; 1 = not a mask.
lf_prefix() {
    case $1 in
        *.*.*.*) ;;
        '' | *[!0-9]*) return 1 ;;
        *) [ "$1" -le 128 ] && echo "$1"; return ;;
    esac
    lf_bits=0
    lf_ended=
    lf_rest=$1.
    while [ -n "$lf_rest" ]; do
        lf_octet=${lf_rest%%.*}
        lf_rest=${lf_rest#*.}
        [ -z "$lf_ended" ] || [ "$lf_octet" = 0 ] || return 1
        case $lf_octet in
            255) lf_bits=$((lf_bits + 8)) ;;
            254) lf_bits=$((lf_bits + 7)); lf_ended=1 ;;
            252) lf_bits=$((lf_bits + 6)); lf_ended=1 ;;
            248) lf_bits=$((lf_bits + 5)); lf_ended=1 ;;
            240) lf_bits=$((lf_bits + 4)); lf_ended=1 ;;
            224) lf_bits=$((lf_bits + 3)); lf_ended=1 ;;
            192) lf_bits=$((lf_bits + 2)); lf_ended=1 ;;
            128) lf_bits=$((lf_bits + 1)); lf_ended=1 ;;
            0) lf_ended=1 ;;
            *) return 1 ;;
        esac
    done
    echo "$lf_bits"
}

# lf_route_record NET/MASK:GATEWAY:IF → rtr_net, rtr_gw, rtr_if.
lf_route_record() {
    lf_left=$1
    lf_field; rtr_net=$lf_head
    lf_field; rtr_gw=$lf_head
    lf_field; rtr_if=$lf_head
    case $rtr_net in
        */*.*.*.*) rtr_net=${rtr_net%/*}/$(lf_prefix "${rtr_net#*/}") || return 1 ;;
    esac
    [ -n "$rtr_net" ] && [ -n "$rtr_gw$rtr_if" ]
}

# lf_ip_show: prints the last record, for tests and layerfs.debug.
lf_ip_show() {
    for lf_name in if method addr prefix peer gw host dns mtu mac error; do
        eval "lf_value=\$ipr_$lf_name"
        [ -z "$lf_value" ] || printf '%s=%s ' "$lf_name" "$lf_value"
    done
    echo
}
