//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use bakery::globals::Globals;
use clap::Parser;

/// The state of the console of a bakery that was installed as documented.
const STATE_DEFAULT: &str = "/var/lib/layerfs-console";
/// The spool of a bakery that was installed as documented.
const SPOOL_DEFAULT: &str = "/var/lib/layerfs/spool";

/// Serve the console: a web page for the people who run this bakery
///
/// The first start prints a link that makes the first account. Without TLS the console listens on
/// loopback addresses only; with --behind-proxy a proxy provides TLS.
#[derive(Debug, Clone, Parser)]
#[command(name = "bakery-console", version, max_term_width = 100)]
pub struct ConsoleOptions {
    /// The options of every command.
    #[command(flatten)]
    pub globals: Globals,
    /// Listen on this address
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8090")]
    pub listen: SocketAddr,
    /// Directory of accounts, audit log and uploads
    #[arg(long, value_name = "DIR", env = "BAKERY_CONSOLE", default_value = STATE_DEFAULT)]
    pub state: PathBuf,
    /// The spool, with the jobs and the state of the fleet
    #[arg(long, value_name = "DIR", env = "BAKERY_SPOOL", default_value = SPOOL_DEFAULT)]
    pub spool: PathBuf,
    /// Directory with images that may be imported [default: images, in the state directory]
    #[arg(long, value_name = "DIR")]
    pub images: Option<PathBuf>,
    /// Certificate chain for TLS, PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Private key for TLS, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// A proxy on this network provides TLS and sets X-Forwarded-For
    #[arg(long, conflicts_with = "tls_cert")]
    pub behind_proxy: bool,
    /// URL of the console for people [default: from the address]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// URL of `bakery serve` for clients, for the preview of boot menus
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub menu_url: String,
    /// Longest upload, bytes
    #[arg(long, value_name = "BYTES", default_value_t = 32 << 30)]
    pub upload_max: u64,
    /// Print the manual page and exit
    #[arg(long, hide = true)]
    pub manual: bool,
    /// Print completions for this shell and exit
    #[arg(long, hide = true, value_name = "SHELL")]
    pub completions: Option<clap_complete::Shell>,
}

impl ConsoleOptions {
    /// True if browsers reach the console over TLS.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.tls_cert.is_some() || self.behind_proxy
    }

    /// Refuses an address that others can reach without TLS.
    ///
    /// # Errors
    /// The reason and the remedy.
    pub fn check(&self) -> Result<(), String> {
        if self.listen.ip().is_loopback() || self.is_secure() {
            return Ok(());
        }
        Err(format!(
            "{} can be reached from other machines: give --tls-cert and --tls-key, or --behind-proxy if a proxy speaks TLS",
            self.listen
        ))
    }

    /// The URL for people, without a slash at the end.
    #[must_use]
    pub fn url(&self, bound: SocketAddr) -> String {
        let scheme = if self.tls_cert.is_some() {
            "https"
        } else {
            "http"
        };
        let own = || format!("{scheme}://{bound}");
        let url = self.url.clone().unwrap_or_else(own);
        url.trim_end_matches('/').to_owned()
    }
}

/// Prints the manual page or completions, if these were asked for.
pub(crate) fn print(options: &ConsoleOptions) -> Option<std::process::ExitCode> {
    use clap::CommandFactory as _;
    let mut command = ConsoleOptions::command();
    let mut out = Vec::new();
    if options.manual {
        clap_mangen::Man::new(command).render(&mut out).ok()?;
    } else {
        clap_complete::generate(
            options.completions?,
            &mut command,
            "bakery-console",
            &mut out,
        );
    }
    std::io::Write::write_all(&mut std::io::stdout(), &out).ok()?;
    Some(std::process::ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definition_is_consistent() {
        ConsoleOptions::command().debug_assert();
    }

    #[test]
    fn other_machines_need_tls() {
        let parse = |line: &str| ConsoleOptions::parse_from(line.split(' '));
        assert!(parse("c --listen 127.0.0.1:1").check().is_ok());
        assert!(parse("c --listen [::1]:1").check().is_ok());
        let refused = parse("c --listen 0.0.0.0:1").check().unwrap_err();
        assert!(refused.contains("--tls-cert"), "{refused}");
        assert!(parse("c --listen 0.0.0.0:1 --behind-proxy").check().is_ok());
        assert!(
            parse("c --listen 0.0.0.0:1 --tls-cert a --tls-key b")
                .check()
                .is_ok()
        );
    }
}
