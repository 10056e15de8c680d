//! Files that look like secrets: everybody who can boot a system can read them.

/// The number of bytes at the start of a file that are searched.
pub const HEAD_LEN: usize = 64;

/// Files that hold password hashes. Every system has them, so only a change of them causes a warning.
const PASSWORDS: [&[u8]; 4] = [
    b"etc/shadow",
    b"etc/shadow-",
    b"etc/gshadow",
    b"etc/gshadow-",
];

/// Prefixes of access tokens.
const TOKENS: [&[u8]; 7] = [
    b"ghp_",
    b"github_pat_",
    b"glpat-",
    b"xoxb-",
    b"hvs.",
    b"AKIA",
    b"AGE-SECRET-KEY-",
];

/// Last components of paths that usually hold a secret, with the kind of secret.
const NAMES: [(&str, &str); 18] = [
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
    (".npmrc", "a token of a package registry"),
    (".pypirc", "a password of a package registry"),
    (".vault-token", "an access token"),
    ("id_ed25519_sk", "an SSH private key"),
    ("secring.gpg", "PGP private keys"),
    ("credentials.json", "credentials"),
    (".smbcredentials", "a password for a share"),
];

/// Directories whose files are usually secrets.
const DIRECTORIES: [(&[u8], &str); 8] = [
    (
        b"etc/NetworkManager/system-connections/",
        "a network connection, perhaps with its password",
    ),
    (b"etc/wireguard/", "a WireGuard key"),
    (b"etc/ssl/private/", "a TLS private key"),
    (b"etc/sssd/conf.d/", "a password of a directory service"),
    (b".docker/", "passwords of container registries"),
    (b".aws/", "cloud credentials"),
    (b".gnupg/private-keys-v1.d/", "a PGP private key"),
    (b".kube/", "cluster credentials"),
];

/// The reason why a changed file is likely to be a secret: that of [`suspicion`], or that it holds password
/// hashes.
#[must_use]
pub fn suspicion_of_change(path: &[u8], head: &[u8]) -> Option<String> {
    if PASSWORDS.contains(&path) && !head.is_empty() {
        return Some("it holds password hashes".to_owned());
    }
    suspicion(path, head)
}

/// The reason why a file is likely to be a secret. `path` is relative to the root; `head` is
/// the start of the file.
#[must_use]
pub fn suspicion(path: &[u8], head: &[u8]) -> Option<String> {
    let is_text_key = head.starts_with(b"-----BEGIN ")
        && head
            .windows(12)
            .any(|window| window == b"PRIVATE KEY-" || window == b"PRIVATE KEY ");
    if is_text_key {
        return Some("it begins like a private key".to_owned());
    }
    if TOKENS.iter().any(|token| head.starts_with(token)) {
        return Some("it begins like an access token".to_owned());
    }
    let last = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let named = NAMES
        .iter()
        .find(|(name, _)| name.as_bytes() == last)
        .map(|(_, what)| what);
    let placed = DIRECTORIES.iter().find(|(directory, _)| {
        path.starts_with(directory)
            || path
                .windows(directory.len() + 1)
                .any(|window| window.first() == Some(&b'/') && window.get(1..) == Some(*directory))
    });
    let what = named.or(placed.map(|(_, what)| what))?;
    // An empty file is not a secret.
    (!head.is_empty()).then(|| format!("it is usually {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn likely_secrets() {
        let table: [(&str, &[u8], bool); 11] = [
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
            ("srv/token", b"ghp_0123456789", true),
            ("home/u/.docker/config.json", b"{", true),
            ("home/u/.aws/credentials", b"[default]", true),
            ("etc/wireguard/wg0.conf", b"[Interface]", true),
            ("usr/share/doc/etc/ssl/x", b"text", false),
        ];
        for (path, head, expected) in table {
            assert_eq!(
                suspicion(path.as_bytes(), head).is_some(),
                expected,
                "{path}"
            );
        }
        assert_eq!(suspicion(b"etc/shadow", b"root:*:"), None);
        assert!(suspicion_of_change(b"etc/shadow", b"root:*:").is_some());
        assert_eq!(suspicion_of_change(b"etc/shadow", b""), None);
    }
}
