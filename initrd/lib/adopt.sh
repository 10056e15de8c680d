# shellcheck shell=sh
# Adopts a network that another initramfs configured (systemd-networkd, NetworkManager, dhclient,
# make-initrd): writes the files of our own DHCP (/run/layerfs/net), and a note for the
# systemd-networkd of the running system, so that it keeps the address of the root's connection.
# Uses network.sh.
#
# shellcheck disable=SC2034,SC2154  # variables are shared with the files named above

lf_netif=${lf_netif:-/run/systemd/netif}
lf_units=${lf_units:-/run/systemd/network}

# lf_adopt_network: copies leases and name servers, unless our own DHCP has written some.
lf_adopt_network() {
    for lf_file in "$lf_net"/*.lease; do [ ! -s "$lf_file" ] || return 0; done
    mkdir -p "$lf_net"
    ip -4 -o addr show 2> /dev/null | while read -r _ lf_link _ lf_value lf_rest; do
        [ "$lf_link" != lo ] || continue
        # The first address of a link is the one that it was given.
        [ ! -e "$lf_net/$lf_link.lease" ] || continue
        {
            printf 'interface=%s\nip=%s\nmask=%s\n' "$lf_link" "${lf_value%/*}" "${lf_value#*/}"
            ip -4 route show default dev "$lf_link" 2> /dev/null | sed -n '/^default via /{s/^default via \([0-9.]*\).*/router=\1/p;q;}'
            # An address with an end is a lease.
            case " $lf_rest " in *' dynamic '*) echo "lease=yes" ;; esac
        } > "$lf_net/$lf_link.lease"
    done
    [ -s "$lf_net/resolv.conf" ] || lf_adopt_names > "$lf_net/resolv.conf"
}

# lf_adopt_names: copies the name servers from the first source that has some.
lf_adopt_names() {
    for lf_file in /etc/resolv.conf /run/NetworkManager/resolv.conf /run/systemd/resolve/resolv.conf; do
        # 127.0.0.53 is a resolver that ends with the initramfs.
        ! grep '^nameserver ' "$lf_file" 2> /dev/null | grep -v ' 127\.' || return 0
    done
    sed -n 's/^DNS=//p' "$lf_netif/state" 2> /dev/null | tr ' ' '\n' | sed -n 's/^..*$/nameserver &/p'
}

# lf_adopt_networkd: copies the configuration of each link of the initramfs's systemd-networkd, with
# precedence over the system's own. It copies the whole configuration, because a VLAN or a bond is
# more than an address. 1 = there is no such link.
lf_adopt_networkd() {
    lf_any=1
    for lf_path in "$lf_sys"/class/net/*; do
        read -r lf_value 2> /dev/null < "$lf_path/ifindex" || continue
        lf_file=$(sed -n 's/^NETWORK_FILE=//p' "$lf_netif/links/$lf_value" 2> /dev/null)
        [ -f "$lf_file" ] || continue
        mkdir -p "$lf_units"
        lf_link=${lf_path##*/}
        {
            cat "$lf_file" "$lf_file.d"/*.conf 2> /dev/null
            printf '\n[Match]\n'
            # A card may have another name in the system. Interfaces made of cards have the card's address, but keep their name.
            if [ -e "$lf_path/device" ] && [ ! -e "$lf_path/master" ] && read -r lf_mac < "$lf_path/address"; then
                printf 'Type=ether\nMACAddress=%s\n' "$lf_mac"
            else
                printf 'Name=%s\n' "$lf_link"
            fi
            printf '\n[Network]\nKeepConfiguration=yes\n'
        } > "$lf_units/05-layerfs-$lf_link.network"
        lf_any=0
    done
    return "$lf_any"
}
