//! Names of extended attributes in the records of a PAX archive, `SCHILY.xattr.NAME=VALUE`.
//!
//! An `=` in the name would end the key. GNU tar writes it as `%3D`, and `%` as `%25`, and reads both back; so do we.

/// The key's last part for an attribute called `name`.
#[must_use]
pub(crate) fn xattr_key(name: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(name.len());
    for &byte in name {
        match byte {
            b'%' => key.extend_from_slice(b"%25"),
            b'=' => key.extend_from_slice(b"%3D"),
            byte => key.push(byte),
        }
    }
    key
}

/// The attribute's name for the key's last part. Other escapes than the two are part of the name.
#[must_use]
pub fn xattr_name(key: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(key.len());
    let mut rest = key;
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = match rest.get(..3) {
            Some(b"%25") => Some(b'%'),
            Some(b"%3D" | b"%3d") => Some(b'='),
            _ => None,
        };
        name.push(escaped.unwrap_or(byte));
        rest = escaped.and_then(|_| rest.get(3..)).unwrap_or(after);
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_as_gnu_tar_does() {
        for (name, key) in [
            (&b"user.a=b"[..], &b"user.a%3Db"[..]),
            (b"user.%41", b"user.%2541"),
            (b"user.%3D", b"user.%253D"),
            (b"user.=%", b"user.%3D%25"),
            ("user.ünï".as_bytes(), "user.ünï".as_bytes()),
        ] {
            assert_eq!(xattr_key(name), key);
            assert_eq!(xattr_name(key), name);
        }
        // Other writers escape nothing.
        assert_eq!(xattr_name(b"user.%41"), b"user.%41");
        assert_eq!(xattr_name(b"user.%2"), b"user.%2");
    }
}
