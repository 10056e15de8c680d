//! The address of a system: `http://HOST[:PORT]/SYSTEM[/PROFILE][@REV]`, and the servers that hold
//! its objects.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};

use wire::manifest::{DEFAULT_PROFILE, is_name};

/// The address of a `layerfs mount`: a server, a system, a profile, and optionally a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The server named in the address.
    pub server: ServerName,
    /// Name of the system.
    pub system: String,
    /// The profile, [`DEFAULT_PROFILE`] when none was given.
    pub profile: String,
    /// A fixed revision, or the newest.
    pub revision: Option<u64>,
}

/// `http://HOST[:PORT][/PREFIX]`, without a slash at the end.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServerName {
    /// Host and port, as in the `Host` header.
    pub authority: String,
    /// Host name or address without brackets.
    pub host: String,
    /// The port; 80 if none is given.
    pub port: u16,
    /// Path in front of the store's own paths; empty, or starting with a slash.
    pub prefix: String,
}

/// The reason why an address is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a layerfs address: {reason}; write {example}")]
pub struct AddressError {
    /// The given text.
    pub text: String,
    /// The mistake in the text.
    pub reason: &'static str,
    /// The correct form of the address.
    pub example: String,
}

impl AddressError {
    /// `form` is the general form, for texts that do not show the correction themselves.
    fn new(text: &str, reason: &'static str, form: &str) -> AddressError {
        let example = match reason == NO_SCHEME && !text.contains("://") && !text.is_empty() {
            true => format!("http://{text}"),
            false => form.to_owned(),
        };
        AddressError {
            text: text.to_owned(),
            reason,
            example,
        }
    }
}

const NO_SCHEME: &str = "it does not start with http://";
const SYSTEM_FORM: &str = "http://HOST[:PORT]/SYSTEM[/PROFILE][@REV]";
const SERVER_FORM: &str = "http://HOST[:PORT][/PREFIX]";

impl Address {
    /// Reads an address.
    pub fn parse(text: &str) -> Result<Address, AddressError> {
        let fail = |reason| AddressError::new(text, reason, SYSTEM_FORM);
        let (authority, path) = split_http(text).map_err(fail)?;
        let path = path.trim_matches('/');
        let (path, revision) = match path.split_once('@') {
            None => (path, None),
            Some((path, digits)) => (
                path,
                Some(
                    digits
                        .parse()
                        .map_err(|_| fail("the revision is not a number"))?,
                ),
            ),
        };
        let mut names = path.split('/');
        let system = names.next().unwrap_or_default();
        let profile = names.next().unwrap_or(DEFAULT_PROFILE);
        if names.next().is_some() {
            return Err(fail("it has more than a system and a profile"));
        }
        if !is_name(system) {
            return Err(fail(
                "it names no system (a-z, 0-9, . _ -, first a letter or digit)",
            ));
        }
        if !is_name(profile) {
            return Err(fail(
                "its profile is not a name (a-z, 0-9, . _ -, first a letter or digit)",
            ));
        }
        let server = ServerName::from_parts(authority, "").map_err(fail)?;
        Ok(Address {
            server,
            system: system.to_owned(),
            profile: profile.to_owned(),
            revision,
        })
    }

    /// The corrected form of `text`, if only the scheme is missing: `HOST[:PORT]/SYSTEM…`.
    pub(crate) fn with_scheme(text: &str) -> Option<String> {
        let missing = !text.contains("://") && !text.starts_with(['/', '.']);
        let url = format!("http://{text}");
        (missing && Address::parse(&url).is_ok()).then_some(url)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.server, self.system, self.profile)?;
        match self.revision {
            Some(revision) => write!(f, "@{revision}"),
            None => Ok(()),
        }
    }
}

impl ServerName {
    /// Reads `http://HOST[:PORT][/PREFIX]`.
    pub fn parse(text: &str) -> Result<ServerName, AddressError> {
        let fail = |reason| AddressError::new(text, reason, SERVER_FORM);
        let (authority, path) = split_http(text).map_err(fail)?;
        ServerName::from_parts(authority, path).map_err(fail)
    }

    fn from_parts(authority: &str, path: &str) -> Result<ServerName, &'static str> {
        let prefix = path.trim_end_matches('/');
        if prefix
            .bytes()
            .any(|byte| byte <= b' ' || byte >= 0x7f || byte == b'?' || byte == b'#')
        {
            return Err("its path has characters that need escaping");
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or("the [address] is not closed")?;
                (host, port.strip_prefix(':'))
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let port = match port {
            None => 80,
            Some(digits) => digits.parse().map_err(|_| "the port is not a number")?,
        };
        if host.is_empty()
            || host
                .bytes()
                .any(|byte| byte <= b' ' || byte >= 0x7f || byte == b'@')
        {
            return Err("it names no host");
        }
        Ok(ServerName {
            authority: authority.to_owned(),
            host: host.to_owned(),
            port,
            prefix: prefix.to_owned(),
        })
    }

    /// The address itself, if the host is one.
    pub fn literal(&self) -> Option<SocketAddr> {
        let ip: std::net::IpAddr = self.host.parse().ok()?;
        Some(SocketAddr::new(ip, self.port))
    }

    /// Resolves the host's name. This happens before switch_root: later there may be no resolver.
    pub fn resolve(&self) -> std::io::Result<Vec<SocketAddr>> {
        let found: Vec<SocketAddr> = (self.host.as_str(), self.port).to_socket_addrs()?.collect();
        if found.is_empty() {
            return Err(std::io::Error::other("the name has no address"));
        }
        Ok(found)
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.prefix)
    }
}

fn split_http(text: &str) -> Result<(&str, &str), &'static str> {
    if text.starts_with("https://") {
        return Err("https is not supported (signatures and digests protect the content)");
    }
    let rest = text.strip_prefix("http://").ok_or(NO_SCHEME)?;
    Ok(match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_addresses() {
        let address = Address::parse("http://10.0.0.1:8080/kiosk/lab-3@12").unwrap();
        assert_eq!(
            (address.server.host.as_str(), address.server.port),
            ("10.0.0.1", 8080)
        );
        assert_eq!(
            (address.system.as_str(), address.profile.as_str()),
            ("kiosk", "lab-3")
        );
        assert_eq!(address.revision, Some(12));
        assert_eq!(address.to_string(), "http://10.0.0.1:8080/kiosk/lab-3@12");
        let short = Address::parse("http://[fe80::1]/kiosk/").unwrap();
        assert_eq!(
            (short.profile.as_str(), short.revision),
            (DEFAULT_PROFILE, None)
        );
        assert_eq!(
            (short.server.host.as_str(), short.server.port),
            ("fe80::1", 80)
        );
    }

    /// "An address without a scheme is refused with the URL to write."
    #[test]
    fn s16_13_an_address_without_a_scheme_names_the_url() {
        for address in ["bakery.lan:8080/kiosk/lab@3", "bakery/kiosk"] {
            let error = Address::parse(address).unwrap_err().to_string();
            assert!(
                error.ends_with(&format!("write http://{address}")),
                "{error}"
            );
            let url = Address::with_scheme(address).unwrap();
            assert_eq!(url, format!("http://{address}"));
        }
        for path in ["/srv/a.layer", "./kiosk/lab", "http://a/b"] {
            assert_eq!(Address::with_scheme(path), None);
        }
    }

    #[test]
    fn refuses_what_is_no_address() {
        for text in [
            "https://a/b",
            "ftp://a/b",
            "http://",
            "http:///x",
            "http://a/",
            "http://a/b/c/d",
            "http://a/b@x",
            "http://a/B",
            "http://a/-b",
            "http://a/b/_c",
            "http://a:x/b",
            "http://a/../b",
            "http://a/b?c",
            "http://[::1/b",
            "http://a b/c",
        ] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn reads_mirrors_with_a_prefix() {
        let server = ServerName::parse("http://mirror/pub/layerfs/").unwrap();
        assert_eq!((server.prefix.as_str(), server.port), ("/pub/layerfs", 80));
        assert_eq!(server.to_string(), "http://mirror/pub/layerfs");
    }
}
