//! The configuration of dnsmasq, which provides DHCP and TFTP.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use wire::paths::Request;

/// The DHCP server of the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Dhcp {
    /// Another server assigns addresses in this network; this one only names the boot file.
    Proxy(Ipv4Addr),
    /// dnsmasq gives addresses: first, last.
    Full(Ipv4Addr, Ipv4Addr),
}

/// The configuration: firmware gets iPXE by TFTP, iPXE gets our menu by HTTP.
#[must_use]
pub(crate) fn dnsmasq(dhcp: &Dhcp, base: &str, tftp_root: &str) -> String {
    let mut config = String::from(
        "# layerfs netboot. Check: dnsmasq --test --conf-file=THIS\n\
         # No DNS from here.\nport=0\nlog-dhcp\n",
    );
    let _ = match dhcp {
        Dhcp::Proxy(network) => writeln!(config, "dhcp-range={network},proxy"),
        Dhcp::Full(first, last) => writeln!(config, "dhcp-range={first},{last},12h"),
    };
    let _ = writeln!(config, "enable-tftp\ntftp-root={tftp_root}\ntftp-no-fail");
    config.push_str(
        "\n# Who asks: iPXE says so itself; the rest by architecture.\n\
         dhcp-userclass=set:ipxe,iPXE\n\
         dhcp-match=set:bios,option:client-arch,0\n\
         dhcp-match=set:efi,option:client-arch,7\n\
         dhcp-match=set:efi,option:client-arch,9\n",
    );
    let menu = Request::Ipxe;
    let _ = writeln!(config, "\ndhcp-boot=tag:ipxe,{base}{menu}");
    config.push_str(
        "dhcp-boot=tag:!ipxe,tag:bios,undionly.kpxe\n\
         dhcp-boot=tag:!ipxe,tag:efi,ipxe.efi\n",
    );
    if matches!(dhcp, Dhcp::Proxy(_)) {
        // Firmware queries a proxy in its own way, as does iPXE.
        config.push_str(
            "pxe-prompt=\"layerfs\",0\n\
             pxe-service=tag:!ipxe,x86PC,\"layerfs\",undionly.kpxe\n\
             pxe-service=tag:!ipxe,X86-64_EFI,\"layerfs\",ipxe.efi\n\
             pxe-service=tag:!ipxe,BC_EFI,\"layerfs\",ipxe.efi\n",
        );
        let _ = writeln!(
            config,
            "pxe-service=tag:ipxe,x86PC,\"layerfs\",{base}{menu}"
        );
        let _ = writeln!(
            config,
            "pxe-service=tag:ipxe,X86-64_EFI,\"layerfs\",{base}{menu}"
        );
    }
    config
}
