//! The destination of a push: `USER@HOST:SYSTEM[/PROFILE]`.

use std::fmt;
use std::str::FromStr;

/// The account for pushes if none is named.
const USER_DEFAULT: &str = "layerfs";

/// The destination of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PushAddress {
    /// `user@host`, for `ssh`.
    pub account: String,
    /// `system[/profile]`, for the server.
    pub target: String,
}

/// The reason why a text is not a destination.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PushAddressError {
    /// A URL in place of an account.
    #[error("{0:?} is a URL, and a push uses ssh: write USER@HOST:SYSTEM[/PROFILE]")]
    Url(String),
    /// Any other invalid text.
    #[error("{0:?} is not USER@HOST:SYSTEM[/PROFILE]")]
    Malformed(String),
}

impl PushAddress {
    /// The destination for a root's source: `http://server[:port]/system[/profile][@revision]`, and
    /// the revision.
    #[must_use]
    pub(crate) fn from_source(source: &str) -> Option<(Self, Option<u64>)> {
        let (_, rest) = source.split_once("://")?;
        let (server, path) = rest.split_once('/')?;
        let path = path.trim_matches('/');
        let (target, revision) = path.split_once('@').unwrap_or((path, ""));
        let host = match server.strip_prefix('[') {
            Some(v6) => v6.split_once(']')?.0,
            None => server.split(':').next()?,
        };
        let address = format!("{USER_DEFAULT}@[{host}]:{target}").parse().ok()?;
        Some((address, revision.parse().ok()))
    }
}

impl FromStr for PushAddress {
    type Err = PushAddressError;

    fn from_str(text: &str) -> Result<Self, PushAddressError> {
        let bad = || match text.contains("://") {
            true => PushAddressError::Url(text.to_owned()),
            false => PushAddressError::Malformed(text.to_owned()),
        };
        let (account, target) = text.rsplit_once(':').ok_or_else(bad)?;
        let (user, host) = account
            .rsplit_once('@')
            .map_or((None, account), |(user, host)| (Some(user), host));
        let host = host
            .strip_prefix('[')
            .map_or(Some(host), |host| host.strip_suffix(']'));
        let host = host
            .filter(|host| is_word(host, b".:-_%"))
            .ok_or_else(bad)?;
        let user = user.unwrap_or(USER_DEFAULT);
        let names: Vec<&str> = target.split('/').collect();
        let named =
            (1..=2).contains(&names.len()) && names.iter().all(|name| is_word(name, b"._-"));
        if !is_word(user, b"._-") || !named {
            return Err(bad());
        }
        Ok(Self {
            account: format!("{user}@{host}"),
            target: target.to_owned(),
        })
    }
}

/// True if the text is not empty and has nothing that `ssh` or a shell could interpret.
fn is_word(text: &str, marks: &[u8]) -> bool {
    !text.is_empty()
        && !text.starts_with(['-', '.'])
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || marks.contains(&byte))
}

impl fmt::Display for PushAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.account, self.target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let parse = |text: &str| {
            text.parse::<PushAddress>()
                .map(|one| (one.account, one.target))
        };
        let expect = |account: &str, target: &str| Ok((account.to_owned(), target.to_owned()));
        assert_eq!(
            parse("ann@bakery.lan:kiosk/lab-3"),
            expect("ann@bakery.lan", "kiosk/lab-3")
        );
        assert_eq!(parse("bakery:kiosk"), expect("layerfs@bakery", "kiosk"));
        assert_eq!(
            parse("ann@[fe80::1%eth0]:kiosk"),
            expect("ann@fe80::1%eth0", "kiosk")
        );
        for text in [
            "",
            "kiosk",
            "host:",
            ":kiosk",
            "@host:kiosk",
            "ann@:kiosk",
            "-oProxyCommand=x:kiosk",
            "ann@-oProxyCommand=x:kiosk",
            "host:a/b/c",
            "host:a b",
            "host:a;b",
            "h ost:a",
            "host:-x",
            "host:../x",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_root_tells_where_to_push() {
        let from = |source| {
            PushAddress::from_source(source).map(|(one, revision)| (one.to_string(), revision))
        };
        assert_eq!(
            from("http://10.0.2.2:8080/kiosk/lab@7"),
            Some(("layerfs@10.0.2.2:kiosk/lab".to_owned(), Some(7)))
        );
        assert_eq!(
            from("http://srv/kiosk"),
            Some(("layerfs@srv:kiosk".to_owned(), None))
        );
        assert_eq!(
            from("http://[fd00::1]:80/kiosk"),
            Some(("layerfs@fd00::1:kiosk".to_owned(), None))
        );
        assert_eq!(from("http://srv"), None);
        assert_eq!(from("/srv/x.layer"), None);
    }
}
