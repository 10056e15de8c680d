//! `authorized_keys`: which SSH key may push to which systems.
//!
//! Each key gets one line whose forced command names its rights; sshd enforces the command,
//! [`crate::receive`] enforces the rights. Removing the line revokes the key.

use std::path::Path;

use ssh_key::{HashAlg, PublicKey};

use crate::receive::Rights;

/// The parts of a line.
#[derive(Debug, Clone)]
pub(crate) struct Grant<'g> {
    /// The bakery program as sshd will find it.
    pub program: &'g Path,
    /// Options before the verb: the store.
    pub store: Option<&'g str>,
    /// The spool, absolute.
    pub spool: &'g Path,
    /// The key's name in job records.
    pub name: &'g str,
    /// The permissions of the key.
    pub rights: &'g Rights,
}

/// The reason why a line cannot be made or a file cannot be changed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AuthorizeError {
    /// Not a public key.
    #[error("not an OpenSSH public key (one line: TYPE BASE64 COMMENT, as in id_ed25519.pub): {0}")]
    Key(String),
    /// A private key, by mistake.
    #[error("this is a private key: never give it away; use the .pub file beside it")]
    Private,
    /// A word that authorized_keys cannot contain.
    #[error("{0:?} has a line break or NUL, which authorized_keys cannot hold")]
    Word(String),
}

/// Parses one public key in OpenSSH's format.
///
/// # Errors
/// It is not one, or it has options.
pub(crate) fn parse_key(text: &str) -> Result<PublicKey, AuthorizeError> {
    if text.contains("PRIVATE KEY") {
        return Err(AuthorizeError::Private);
    }
    let mut lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let line = lines.next().unwrap_or_default();
    if lines.next().is_some() {
        return Err(AuthorizeError::Key("more than one line".into()));
    }
    PublicKey::from_openssh(line).map_err(|error| AuthorizeError::Key(error.to_string()))
}

/// The line for one key.
///
/// # Errors
/// A word is not allowed there.
pub(crate) fn line(key: &PublicKey, grant: &Grant<'_>) -> Result<String, AuthorizeError> {
    let mut words = vec![grant.program.to_string_lossy().into_owned()];
    if let Some(store) = grant.store {
        words.extend(["--store".into(), store.to_owned()]);
    }
    let rights = grant.rights.to_string();
    words.extend([
        "receive".into(),
        "--spool".into(),
        grant.spool.to_string_lossy().into_owned(),
    ]);
    words.extend([
        "--key".into(),
        grant.name.to_owned(),
        "--fingerprint".into(),
        key.fingerprint(HashAlg::Sha256).to_string(),
        "--systems".into(),
        rights,
    ]);
    let words = words
        .iter()
        .map(|word| shell_word(word))
        .collect::<Result<Vec<_>, _>>()?;
    // Inside the quotes sshd supports one escape: a quote.
    let command = words.join(" ").replace('"', "\\\"");
    let key = key
        .to_openssh()
        .map_err(|error| AuthorizeError::Key(error.to_string()))?;
    Ok(format!("restrict,command=\"{command}\" {key}"))
}

/// Quotes one word for the login shell.
fn shell_word(word: &str) -> Result<String, AuthorizeError> {
    if word.contains(['\n', '\r', '\0']) {
        return Err(AuthorizeError::Word(word.to_owned()));
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._:@,+=-".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return Ok(word.to_owned());
    }
    Ok(format!("'{}'", word.replace('\'', "'\\''")))
}

/// The file's text without any line of this key, and the number of removed lines.
#[must_use]
pub(crate) fn without(file: &str, key: &PublicKey) -> (String, usize) {
    let mut kept = String::new();
    let mut removed = 0;
    for line in file.lines() {
        if holds(line, key) {
            removed += 1;
        } else {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    (kept, removed)
}

/// True if a line of `authorized_keys`, with or without options, is for this key.
fn holds(line: &str, key: &PublicKey) -> bool {
    let Ok(text) = key.to_openssh() else {
        return false;
    };
    let mut words = text.split(' ');
    let (Some(kind), Some(blob)) = (words.next(), words.next()) else {
        return false;
    };
    let mut words = line.split_ascii_whitespace();
    // Options may have spaces in quotes; the base64 of a key cannot be mistaken for a part of them.
    words.any(|word| word == kind) && line.split_ascii_whitespace().any(|word| word == blob)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ ann@school";
    const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti bob@school";

    /// The output of `ssh-keygen -l` for KEY.
    const FINGERPRINT: &str = "SHA256:T7SvZ2cslqpPj6nKzitCBHHlpVF3r3MvLwmFL0fk0IE";

    fn grant<'g>(rights: &'g Rights, name: &'g str) -> Grant<'g> {
        Grant {
            program: Path::new("/usr/bin/bakery"),
            store: Some("/srv/layerfs"),
            spool: Path::new("/var/spool/it's \"here\""),
            name,
            rights,
        }
    }

    #[test]
    fn a_line_restricts_and_quotes() {
        let rights: Rights = "*".parse().unwrap();
        let key = parse_key(KEY).unwrap();
        let line = line(&key, &grant(&rights, "ann")).unwrap();
        assert_eq!(
            line,
            format!(
                "restrict,command=\"/usr/bin/bakery --store /srv/layerfs receive --spool \
                 '/var/spool/it'\\''s \\\"here\\\"' --key ann --fingerprint {FINGERPRINT} --systems '*'\" {KEY}"
            )
        );
        assert!(matches!(
            super::line(&key, &grant(&rights, "a\nb")),
            Err(AuthorizeError::Word(_))
        ));
    }

    #[test]
    fn revoking_takes_every_line_of_the_key_and_no_other() {
        let rights: Rights = "kiosk".parse().unwrap();
        let key = parse_key(KEY).unwrap();
        let ours = line(&key, &grant(&rights, "ann")).unwrap();
        let file = format!("# keys\n{OTHER}\n{ours}\n{KEY}\n");
        assert_eq!(without(&file, &key), (format!("# keys\n{OTHER}\n"), 2));
        assert_eq!(without(&format!("{OTHER}\n"), &key).1, 0);
    }

    #[test]
    fn what_is_no_public_key_is_refused() {
        for text in ["", "hello", "ssh-ed25519 AAAA", &format!("{KEY}\n{OTHER}")] {
            assert!(
                matches!(parse_key(text), Err(AuthorizeError::Key(_))),
                "{text:?}"
            );
        }
        assert!(parse_key(&format!("command=\"id\" {KEY}")).is_err());
        let private = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n";
        assert_eq!(parse_key(private), Err(AuthorizeError::Private));
    }
}
