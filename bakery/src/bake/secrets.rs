//! Files that look like secrets: everybody who can boot a system can read all of it.

use crate::source::EntryPath;

/// How much of a file's beginning is looked at.
pub(super) const HEAD_LEN: usize = 64;

/// Last components of paths that usually hold a secret, and what it is.
const NAMES: [(&str, &str); 14] = [
    ("id_rsa", "an SSH private key"),
    ("id_dsa", "an SSH private key"),
    ("id_ecdsa", "an SSH private key"),
    ("id_ed25519", "an SSH private key"),
    (".netrc", "passwords for servers"),
    (".pgpass", "passwords for databases"),
    (".my.cnf", "a password for a database"),
    (".git-credentials", "passwords for repositories"),
    (".htpasswd", "passwords"),
    ("krb5.keytab", "Kerberos keys"),
    ("wpa_supplicant.conf", "passwords of wireless networks"),
    ("secring.gpg", "PGP private keys"),
    ("credentials.json", "credentials"),
    (".smbcredentials", "a password for a share"),
];

/// Directories whose files are usually secrets.
const DIRECTORIES: [(&[u8], &str); 6] = [
    (
        b"etc/NetworkManager/system-connections/",
        "a network connection, perhaps with its password",
    ),
    (b"etc/wireguard/", "a WireGuard key"),
    (b"etc/ssl/private/", "a TLS private key"),
    (b".aws/", "cloud credentials"),
    (b".gnupg/private-keys-v1.d/", "a PGP private key"),
    (b".kube/", "cluster credentials"),
];

/// Why a file is likely to be a secret; `head` is how it begins.
pub(super) fn suspicion(path: &EntryPath, head: &[u8]) -> Option<String> {
    let is_text_key = head.starts_with(b"-----BEGIN ")
        && head
            .windows(12)
            .any(|window| window == b"PRIVATE KEY-" || window == b"PRIVATE KEY ");
    if is_text_key {
        return Some("it begins like a private key".to_owned());
    }
    let bytes = path.as_bytes();
    let last = path.components().next_back().unwrap_or_default();
    let named = NAMES
        .iter()
        .find(|(name, _)| name.as_bytes() == last)
        .map(|(_, what)| what);
    let placed = DIRECTORIES.iter().find(|(directory, _)| {
        bytes.starts_with(directory)
            || bytes
                .windows(directory.len() + 1)
                .any(|window| window.first() == Some(&b'/') && window.get(1..) == Some(*directory))
    });
    let what = named.or(placed.map(|(_, what)| what))?;
    // An empty file keeps no secret.
    (!head.is_empty()).then(|| format!("it is usually {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn likely_secrets() {
        let table: [(&str, &[u8], bool); 9] = [
            ("root/.ssh/id_ed25519", b"x", true),
            ("root/.ssh/id_ed25519", b"", false),
            ("root/.ssh/id_ed25519.pub", b"ssh-ed25519 AAAA", false),
            (
                "srv/key.pem",
                b"-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blb",
                true,
            ),
            ("srv/key.pem", b"-----BEGIN RSA PRIVATE KEY-----\nMII", true),
            (
                "etc/ssl/certs/ca.pem",
                b"-----BEGIN CERTIFICATE-----\nMII",
                false,
            ),
            ("home/u/.aws/credentials", b"[default]", true),
            ("etc/wireguard/wg0.conf", b"[Interface]", true),
            ("usr/share/doc/etc/ssl/x", b"text", false),
        ];
        for (path, head, expected) in table {
            let parsed = EntryPath::parse(path.as_bytes()).unwrap();
            assert_eq!(suspicion(&parsed, head).is_some(), expected, "{path}");
        }
    }
}
