//! The command `bakery dnsmasq`.

use std::net::Ipv4Addr;
use std::process::ExitCode;

use anyhow::ensure;

use crate::globals::Globals;
use crate::netboot::{Dhcp, dnsmasq};
use crate::output;

/// Print a dnsmasq configuration that boots clients from this server
///
/// By default as a proxy: the network's own DHCP server assigns the addresses. Put undionly.kpxe
/// and ipxe.efi (Debian package ipxe) into the TFTP directory.
#[derive(Debug, clap::Args)]
pub struct DnsmasqArgs {
    /// URL of `bakery serve` for clients, such as http://10.0.0.1:8080
    #[arg(long, value_name = "URL")]
    url: String,
    /// The network, as proxy
    #[arg(long, value_name = "ADDRESS", required_unless_present = "range")]
    network: Option<Ipv4Addr>,
    /// Assign addresses from this range: FIRST,LAST
    #[arg(long, value_name = "FIRST,LAST", value_parser = range, conflicts_with = "network")]
    range: Option<(Ipv4Addr, Ipv4Addr)>,
    /// The directory of undionly.kpxe and ipxe.efi
    #[arg(long, value_name = "DIR", default_value = "/usr/lib/ipxe")]
    tftp_root: String,
}

/// Prints the configuration.
///
/// # Errors
/// The text is not a URL.
pub(crate) fn run(args: DnsmasqArgs, _globals: &Globals) -> anyhow::Result<ExitCode> {
    let url = args.url.trim_end_matches('/');
    crate::netboot::require_url(url).map_err(anyhow::Error::msg)?;
    let plain = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b',' && byte != b'#')
    };
    ensure!(
        url.starts_with("http://"),
        "{url:?} is not an http:// URL (firmware speaks no TLS)"
    );
    ensure!(
        args.tftp_root.starts_with('/') && plain(&args.tftp_root),
        "--tftp-root must be an absolute path"
    );
    let dhcp = match (args.network, args.range) {
        (Some(network), _) => Dhcp::Proxy(network),
        (None, Some((first, last))) => Dhcp::Full(first, last),
        _ => anyhow::bail!("give --network ADDRESS or --range FIRST,LAST"),
    };
    output::raw(|out| out.write_all(dnsmasq(&dhcp, url, &args.tftp_root).as_bytes()))?;
    Ok(ExitCode::SUCCESS)
}

fn range(text: &str) -> Result<(Ipv4Addr, Ipv4Addr), String> {
    let parsed = text
        .split_once(',')
        .and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
    parsed.ok_or_else(|| {
        "two addresses with a comma between them, such as 10.0.0.100,10.0.0.200".to_owned()
    })
}
