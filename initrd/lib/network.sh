# shellcheck shell=sh
# Network configuration in bakery's initramfs: drivers by modalias, links, DHCP by busybox
# udhcpc on every interface at once, static addresses, routes. Uses cmdline.sh, address.sh and
# message.sh. State is kept in /run/layerfs/net: IF.lease (written by the udhcpc script),
# resolv.conf, server (next-server of the first answer).
#
# shellcheck disable=SC2034,SC2154  # variables are shared with the files named above

lf_net=/run/layerfs/net
lf_sys=${lf_sys:-/sys}
lf_packed=${lf_packed:-/lib/layerfs/packed}

# lf_load_drivers PATTERN: loads the drivers of the devices whose modalias matches, and no others:
# on a slow CPU every module costs time.
lf_load_drivers() {
    cat "$lf_sys"/bus/*/devices/*/modalias 2> /dev/null | grep -E "$1" | sort -u |
        xargs modprobe -q -b -a 2> /dev/null || :
}

# lf_unpack: unpacks, once, the drivers that bakery's initramfs keeps packed, which plain virtual
# machines do not need. Other initramfs have no packed drivers.
lf_unpack() {
    [ -e "$lf_packed" ] || return 0
    lf_info "unpacking the drivers"
    layerfs initramfs unpack "$lf_packed" 2> /dev/kmsg || lf_warn "the packed drivers cannot be unpacked"
    rm -f "$lf_packed"
}

# lf_cards_without: 0 = there is a network card without a driver.
lf_cards_without() {
    for lf_path in "$lf_sys"/bus/pci/devices/*; do
        read -r lf_class 2> /dev/null < "$lf_path/class" || continue
        case $lf_class in 0x02*) [ -e "$lf_path/driver" ] || return 0 ;; esac
    done
    return 1
}

# Loads drivers for network cards by PCI class, virtio, and the buses of virtual machines; twice,
# because a card may be behind such a bus. If there is still no card, for all devices.
lf_network_drivers() {
    lf_cards='^pci:.*bc02|^virtio:d00000001|^vmbus:|^xen:|^acpi:.*VMBUS'
    lf_load_drivers "$lf_cards"
    if [ -e "$lf_packed" ] && { ! lf_links || lf_cards_without; }; then
        lf_unpack
        lf_load_drivers "$lf_cards"
    fi
    ! lf_links || return 0
    lf_load_drivers '^virtio:|^vmbus:|^xen:|^usb:'
    ! lf_links || return 0
    lf_load_drivers .
}

# Every started process slows the boot, so these functions use only the shell.

# lf_links: sets lf_found to the names of the real network interfaces; 1 = there is none.
lf_links() {
    lf_found=
    for lf_path in "$lf_sys"/class/net/*; do
        [ ! -e "$lf_path/device" ] || lf_found="${lf_found:+$lf_found }${lf_path##*/}"
    done
    [ -n "$lf_found" ]
}

# lf_lease KEY: sets lf_value to this value of the lease in lf_file.
lf_lease() {
    lf_value=
    while IFS= read -r lf_line; do
        case $lf_line in "$1="*) lf_value=${lf_line#*=}; return 0 ;; esac
    done < "$lf_file"
    return 1
}

# lf_link_by_mac MAC
lf_link_by_mac() {
    lf_wanted=$(echo "$1" | tr 'A-F' 'a-f')
    for lf_path in "$lf_sys"/class/net/*; do
        read -r lf_mac 2> /dev/null < "$lf_path/address" || continue
        [ "$lf_mac" != "$lf_wanted" ] || { echo "${lf_path##*/}"; return 0; }
    done
    return 1
}

# Waits for the first interface, or for the one of BOOTIF=.
lf_wait_links() {
    lf_tries=0
    while [ "$lf_tries" -lt 100 ]; do
        if [ -n "$lf_bootif" ]; then
            lf_link_by_mac "$lf_bootif" > /dev/null && return 0
        else
            ! lf_links || return 0
        fi
        lf_tries=$((lf_tries + 1))
        [ $((lf_tries % 20)) != 0 ] || lf_network_drivers
        sleep 0.1
    done
    ! lf_links || { lf_warn "no interface has the address BOOTIF=$lf_bootif: using all"; lf_bootif=; return 0; }
    return 1
}

lf_rename_links() {
    [ -n "$lf_ifname" ] || return 0
    echo "$lf_ifname" | while IFS= read -r lf_item; do
        [ -n "$lf_item" ] || continue
        lf_old=$(lf_link_by_mac "${lf_item#*:}") || { lf_warn "ifname=$lf_item: no interface has this address"; continue; }
        [ "$lf_old" = "${lf_item%%:*}" ] || ip link set "$lf_old" name "${lf_item%%:*}" || lf_warn "ifname=$lf_item: cannot rename $lf_old"
    done
}

# lf_net_up: 0 = an address is configured. Sets lf_server_found from DHCP.
lf_net_up() {
    [ -z "$lf_made" ] || { lf_why="$lf_made: this initramfs does not support such an interface; use one made by dracut"; return 1; }
    mkdir -p "$lf_net"
    lf_network_drivers
    ip link set lo up
    lf_wait_links || { lf_why="no network interface: is its driver in the initramfs? (bakery initrd --drivers all)"; return 1; }
    lf_rename_links
    lf_dhcp_links=
    lf_auto6_links=
    lf_static_any=
    lf_ip_all || return 1
    lf_routes_add
    if [ -n "$lf_dhcp_links" ]; then
        lf_dhcp || return 1
    fi
    if [ -n "$lf_auto6_links" ]; then
        lf_auto6 || return 1
    fi
    lf_resolver
    [ -n "$lf_dhcp_links$lf_auto6_links$lf_static_any" ] || { lf_why="ip= enables no interface"; return 1; }
}

# Applies every ip= value; without any, DHCP on the boot interface, or on all.
lf_ip_all() {
    lf_links
    lf_default_links=$lf_found
    [ -z "$lf_bootif" ] || lf_default_links=$(lf_link_by_mac "$lf_bootif")
    lf_all=${lf_ip:-dhcp}
    while [ -n "$lf_all" ]; do
        lf_one=${lf_all%%"$lf_nl"*}
        lf_all=${lf_all#"$lf_one"}
        lf_all=${lf_all#"$lf_nl"}
        lf_ip_record "$lf_one" || { lf_why=$ipr_error; return 1; }
        [ -z "$ipr_host" ] || lf_hostname=$ipr_host
        [ -z "$ipr_dns" ] || lf_dns="${lf_dns:+$lf_dns$lf_nl}$(echo "$ipr_dns" | tr ' ' '\n')"
        lf_ip_apply || return 1
    done
}

lf_ip_apply() {
    lf_targets=${ipr_if:-$lf_default_links}
    for lf_link in $lf_targets; do
        [ -e "$lf_sys/class/net/$lf_link" ] || { lf_links; lf_why="ip=: there is no interface $lf_link (there are: $lf_found)"; return 1; }
        [ -z "$ipr_mac" ] || ip link set "$lf_link" address "$ipr_mac" || lf_warn "$lf_link: cannot take the address $ipr_mac"
        [ -z "$ipr_mtu" ] || ip link set "$lf_link" mtu "$ipr_mtu" || lf_warn "$lf_link: cannot take the MTU $ipr_mtu"
        [ "$ipr_method" = off ] || ip link set "$lf_link" up
        case $ipr_method in
            dhcp) lf_dhcp_links="$lf_dhcp_links $lf_link" ;;
            auto6) lf_auto6_links="$lf_auto6_links $lf_link" ;;
            static) lf_static "$lf_link" || return 1; break ;;
        esac
    done
}

# lf_static LINK: configures the address in ipr_*.
lf_static() {
    lf_static_any=yes
    if [ -n "$ipr_peer" ] && [ -z "$ipr_gw" ] && [ "$ipr_prefix" = 32 ]; then
        ip addr add "$ipr_addr" peer "$ipr_peer" dev "$1"
    else
        ip addr add "$ipr_addr/$ipr_prefix" dev "$1"
    fi || { lf_why="$1: cannot take the address $ipr_addr/$ipr_prefix"; return 1; }
    [ -z "$ipr_gw" ] || ip route add default via "$ipr_gw" dev "$1" || lf_warn "$1: cannot use the gateway $ipr_gw"
    lf_wait_carrier "$1" || lf_warn "$1: no link after 10 s"
    printf 'interface=%s\nip=%s\nmask=%s\nrouter=%s\n' "$1" "$ipr_addr" "$ipr_prefix" "$ipr_gw" > "$lf_net/$1.lease"
    lf_info "$1: $ipr_addr/$ipr_prefix (static)"
}

lf_wait_carrier() {
    lf_tries=0
    while [ "$lf_tries" -lt 100 ]; do
        read -r lf_up 2> /dev/null < "$lf_sys/class/net/$1/carrier" && [ "$lf_up" = 1 ] && return 0
        lf_tries=$((lf_tries + 1))
        sleep 0.1
    done
    return 1
}

lf_routes_add() {
    [ -n "$lf_route" ] || return 0
    echo "$lf_route" | while IFS= read -r lf_item; do
        [ -n "$lf_item" ] || continue
        lf_route_record "$lf_item" || { lf_warn "route=$lf_item: cannot be read (NET/MASK:GATEWAY:IF)"; continue; }
        # shellcheck disable=SC2086  # absent parts vanish
        ip route add "$rtr_net" ${rtr_gw:+via "$rtr_gw"} ${rtr_if:+dev "$rtr_if"} || lf_warn "route=$lf_item: refused"
    done
}

# DHCP on all of lf_dhcp_links at once; the first answer is enough. Retries forever: a switch that
# opens its port late, or a server that restarts, must not require an administrator.
lf_dhcp() {
    lf_asked=0
    while :; do
        lf_pids=
        for lf_link in $lf_dhcp_links; do
            udhcpc -q -n -f -t 4 -T 2 -i "$lf_link" -s /lib/layerfs/udhcpc -O rootpath ${lf_hostname:+-x "hostname:$lf_hostname"} > /dev/null 2>&1 &
            lf_pids="$lf_pids $!"
        done
        # One interface: its answer ends the wait at once.
        [ "$lf_dhcp_links" != " $lf_link" ] || wait "$!"
        lf_tries=0
        while [ "$lf_tries" -lt 100 ]; do
            for lf_link in $lf_dhcp_links; do
                [ -s "$lf_net/$lf_link.lease" ] && break 3
            done
            lf_alive=
            for lf_pid in $lf_pids; do
                kill -0 "$lf_pid" 2> /dev/null && lf_alive=yes
            done
            [ -n "$lf_alive" ] || break
            lf_tries=$((lf_tries + 1))
            sleep 0.1
        done
        lf_asked=$((lf_asked + 1))
        lf_say "no DHCP answer on$lf_dhcp_links (round $lf_asked): retrying"
        [ -z "$lf_shell" ] || [ "$lf_asked" -lt 5 ] || { lf_why="no DHCP answer on$lf_dhcp_links"; return 1; }
        sleep 1
    done
    # The others may still come, or not: their processes end by themselves or now.
    for lf_pid in $lf_pids; do
        kill "$lf_pid" 2> /dev/null || :
    done
    lf_file=$lf_net/$lf_link.lease
    lf_lease ip
    lf_info "$lf_link: $lf_value (dhcp)"
}

# Addresses by router advertisement: the kernel configures them; waits for a global one.
lf_auto6() {
    lf_tries=0
    while [ "$lf_tries" -lt 200 ]; do
        for lf_link in $lf_auto6_links; do
            ip -6 addr show dev "$lf_link" 2> /dev/null | grep -q 'scope global' && { lf_info "$lf_link: IPv6 by router advertisement"; return 0; }
        done
        lf_tries=$((lf_tries + 1))
        sleep 0.1
    done
    lf_why="no IPv6 router answered on$lf_auto6_links in 20 s"
    return 1
}

# Name servers of the command line first, then those of DHCP; hostname.
lf_resolver() {
    {
        [ -z "$lf_dns" ] || echo "$lf_dns" | sed -n 's/^..*$/nameserver &/p'
        for lf_file in "$lf_net"/*.dns; do
            [ ! -e "$lf_file" ] || while IFS= read -r lf_line; do echo "$lf_line"; done < "$lf_file"
        done
    } > "$lf_net/resolv.conf"
    [ -d /etc ] || mkdir /etc
    cp "$lf_net/resolv.conf" /etc/resolv.conf
    lf_server_found=
    for lf_file in "$lf_net"/*.lease; do
        [ -e "$lf_file" ] || continue
        [ -n "$lf_server_found" ] || ! lf_lease siaddr || lf_server_found=$lf_value
        [ -n "$lf_hostname" ] || ! lf_lease hostname || lf_hostname=$lf_value
    done
    [ -z "$lf_hostname" ] || hostname "$lf_hostname"
}
