//! Which object of the store a request path means. Anything else does not exist,
//! so no path a client sends ever reaches the file system unchecked.

use crate::jobs::is_name;

/// The caching of an object by clients and proxies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// Named by its content: forever.
    Immutable,
    /// Written once, but requested before it exists, and small: always revalidated.
    Record,
}

/// A checked place in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    /// The object's path in the store.
    pub path: String,
    /// The caching of the object.
    pub lifetime: Lifetime,
    /// The digest in its name, for an immutable object.
    pub digest: Option<String>,
}

impl Key {
    /// Reads a request path (without the leading slash).
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let (class, rest) = path.split_once('/')?;
        let suffix = match class {
            "layers" | "packs" => ".layer",
            "indexes" => ".index",
            "manifests" | "boot" => "",
            "keysets" => return number(rest).then(|| Self::record(path)),
            "hints" => {
                let (system, profile) = rest.split_once('/')?;
                return (is_name(system) && is_name(profile)).then(|| Self::record(path));
            }
            "refs" => {
                let (system, rest) = rest.split_once('/')?;
                let (profile, revision) = rest.split_once('/')?;
                let known = is_name(system) && is_name(profile) && number(revision);
                return known.then(|| Self::record(path));
            }
            _ => return None,
        };
        let hex = rest.strip_suffix(suffix)?;
        is_digest(hex).then(|| Self {
            path: path.to_owned(),
            lifetime: Lifetime::Immutable,
            digest: Some(hex.to_owned()),
        })
    }

    /// The object of a class named by a digest; `None` if `hex` is not one.
    pub(crate) fn content(class: &str, hex: &str) -> Option<Self> {
        let suffix = match class {
            "layers" | "packs" => ".layer",
            "indexes" => ".index",
            _ => "",
        };
        Self::parse(&format!("{class}/{hex}{suffix}"))
    }

    fn record(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            lifetime: Lifetime::Record,
            digest: None,
        }
    }
}

/// A 20-digit number, as revisions and keyset versions are written.
fn number(text: &str) -> bool {
    text.len() == 20 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// 64 lower-case hexadecimal digits.
pub(crate) fn is_digest(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    #[test]
    fn the_layout_of_the_store_is_reachable() {
        for (path, lifetime) in [
            (format!("layers/{HEX}.layer"), Lifetime::Immutable),
            (format!("packs/{HEX}.layer"), Lifetime::Immutable),
            (format!("indexes/{HEX}.index"), Lifetime::Immutable),
            (format!("manifests/{HEX}"), Lifetime::Immutable),
            (format!("boot/{HEX}"), Lifetime::Immutable),
            ("keysets/00000000000000000001".into(), Lifetime::Record),
            (
                "refs/alt-p11/lab-3/00000000000000000042".into(),
                Lifetime::Record,
            ),
            ("hints/alt-p11/main".into(), Lifetime::Record),
        ] {
            let key = Key::parse(&path).unwrap_or_else(|| panic!("{path}"));
            assert_eq!((key.path, key.lifetime), (path, lifetime));
        }
    }

    #[test]
    fn nothing_else_is() {
        for path in [
            "",
            "/",
            "layers",
            "layers/",
            "layers/../x",
            "../etc/passwd",
            "refs/../../x/00000000000000000001",
            "refs/a/b/1",
            "refs/a/b/000000000000000000010",
            "refs/.a/b/00000000000000000001",
            "refs//b/00000000000000000001",
            "refs/a/b/c/00000000000000000001",
            "hints/a",
            "hints/a/b/c",
            "hints/a/..",
            "hints/a/-b",
            "keysets/x",
            "private/key",
            "signing.key",
            "spool/jobs",
            "hints/a/b\0",
            "hints/a/%2e%2e",
            "hints/a/\u{44f}",
        ] {
            assert_eq!(Key::parse(path), None, "{path:?}");
        }
        assert_eq!(Key::parse(&format!("layers/{HEX}")), None);
        assert_eq!(
            Key::parse(&format!("layers/{}.layer", HEX.to_uppercase())),
            None
        );
        assert_eq!(Key::parse(&format!("boot/{HEX}.layer")), None);
        assert_eq!(Key::parse(&format!("layers/x/{HEX}.layer")), None);
    }
}
