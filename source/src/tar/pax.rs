//! The values of PAX extended headers, and their supported keys.

use layerfmt::limits::{XATTR_NAME_LEN_MAX, XATTR_VALUE_LEN_MAX, XATTRS_PER_INODE_MAX};
use layerfmt::tree::{Time, Xattrs};

use wire::tar::records::{
    base64_decoded, map, natural, natural32, percent_decoded, record, text, time,
};
use wire::tar::sparse::SparseRecords;
use wire::tar::xattr_name;

use crate::accounts::Accounts;
use crate::acl;

/// All PAX values of one entry; later records override earlier ones.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attributes {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link_path: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) mtime: Option<Time>,
    pub(crate) device: (Option<u32>, Option<u32>),
    pub(crate) xattrs: Xattrs,
    /// `SCHILY.xattr.KEY` records: the raw value, the name in the writer's own escapes.
    schily: Xattrs,
    /// `LIBARCHIVE.xattr.KEY` records, decoded from base64; the name is %-encoded.
    libarchive: Xattrs,
    pub(crate) sparse: SparseRecords,
}

impl Attributes {
    /// Adds one extended header's data.
    ///
    /// # Errors
    /// The fault and the record.
    pub(crate) fn extend(&mut self, mut data: &[u8]) -> Result<(), String> {
        // A second header's map replaces a first one's.
        let mut sparse_seen = false;
        while !data.is_empty() {
            let (key, value, rest) = record(data)?;
            data = rest;
            if key.starts_with(b"GNU.sparse.") && !sparse_seen {
                self.sparse = SparseRecords::default();
                sparse_seen = true;
            }
            self.set(key, value).map_err(|problem| {
                format!("extended header record {}: {problem}", key.escape_ascii())
            })?;
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        if let Some(key) = key.strip_prefix(b"SCHILY.xattr.") {
            return noted(&mut self.schily, key, value);
        }
        if let Some(key) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
            let value = base64_decoded(value).ok_or("the value is not base64")?;
            return noted(&mut self.libarchive, key, &value);
        }
        match key {
            b"path" => self.path = text(value)?,
            b"linkpath" => self.link_path = text(value)?,
            b"size" => self.size = natural(value)?,
            b"uid" => self.uid = natural32(value)?,
            b"gid" => self.gid = natural32(value)?,
            b"mtime" => {
                self.mtime = if value.is_empty() {
                    None
                } else {
                    Some(time(value)?)
                }
            }
            b"SCHILY.devmajor" => self.device.0 = natural32(value)?,
            b"SCHILY.devminor" => self.device.1 = natural32(value)?,
            b"SCHILY.acl.access" => self.acl(acl::AclKind::Access, value)?,
            b"SCHILY.acl.default" => self.acl(acl::AclKind::Default, value)?,
            b"RHT.security.selinux" => self.selinux(value)?,
            b"GNU.sparse.major" => self.sparse.major = natural(value)?,
            b"GNU.sparse.minor" => self.sparse.minor = natural(value)?,
            b"GNU.sparse.name" => self.sparse.name = text(value)?,
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse.size = natural(value)?,
            b"GNU.sparse.numblocks" => self.sparse.segment_count = natural(value)?,
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => self.sparse_number(key, value)?,
            b"GNU.sparse.map" => self.sparse.numbers = map(value)?,
            _ => {}
        }
        Ok(())
    }

    /// Decodes the attributes' names, after all records of the entry were read.
    ///
    /// libarchive writes each attribute twice, with the same %-encoded name. GNU tar writes it once
    /// and escapes only `%` and `=`. A writer with `raw_names` escapes nothing.
    ///
    /// # Errors
    /// The fault and the name.
    pub(crate) fn name_xattrs(&mut self, raw_names: bool) -> Result<(), String> {
        let mut schily = std::mem::take(&mut self.schily);
        for (key, value) in std::mem::take(&mut self.libarchive) {
            let wrong = || format!("\"{}\" is not properly %-encoded", key.escape_ascii());
            let name = percent_decoded(&key).ok_or_else(wrong)?;
            let exact = schily.remove(&key);
            self.xattr(&name, &exact.unwrap_or(value))?;
        }
        for (key, value) in schily {
            match raw_names {
                true => self.xattr(&key, &value)?,
                false => self.xattr(&xattr_name(&key), &value)?,
            }
        }
        Ok(())
    }

    fn xattr(&mut self, name: &[u8], value: &[u8]) -> Result<(), String> {
        if name.is_empty() || name.len() > XATTR_NAME_LEN_MAX || name.contains(&0) {
            return Err(format!(
                "attribute names have 1 to {XATTR_NAME_LEN_MAX} bytes, none of them NUL"
            ));
        }
        if value.len() > XATTR_VALUE_LEN_MAX {
            return Err(format!(
                "attribute values have at most {XATTR_VALUE_LEN_MAX} bytes"
            ));
        }
        noted(&mut self.xattrs, name, value)?;
        self.xattrs.remove(&*acl::NamedAcl::placeholder(name));
        Ok(())
    }

    fn acl(&mut self, kind: acl::AclKind, text: &[u8]) -> Result<(), String> {
        let name = kind.attribute();
        if text.is_empty() {
            return Ok(());
        }
        match acl::from_text(text, kind, &Accounts::default()) {
            Ok(Some(value)) => self.xattr(name, &value),
            Ok(None) => Ok(()),
            Err(acl::AclError::Unknown(_)) => {
                // The numbers may follow in the archive's own etc/passwd.
                self.xattrs
                    .insert(acl::NamedAcl::placeholder(name).into(), text.into());
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    fn selinux(&mut self, label: &[u8]) -> Result<(), String> {
        // The kernel stores the label with its final NUL; the archive without.
        let mut value = label.to_vec();
        if value.last() != Some(&0) {
            value.push(0);
        }
        self.xattr(b"security.selinux", &value)
    }

    fn sparse_number(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let offset_is_next = self.sparse.numbers.len().is_multiple_of(2);
        if offset_is_next != (key == b"GNU.sparse.offset") {
            return Err("offset and numbytes records do not alternate".to_owned());
        }
        self.sparse
            .numbers
            .push(natural(value)?.ok_or("empty number")?);
        Ok(())
    }
}

/// Records an attribute, up to the bound on their number.
fn noted(xattrs: &mut Xattrs, name: &[u8], value: &[u8]) -> Result<(), String> {
    if xattrs.len() >= XATTRS_PER_INODE_MAX {
        return Err(format!("more than {XATTRS_PER_INODE_MAX} attributes"));
    }
    xattrs.insert(name.into(), value.into());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_bounded_by_their_own_length() {
        let good = b"11 size=42\n12 path=ab\n\n";
        let mut attributes = Attributes::default();
        // The second record's value contains a newline at its end.
        attributes.extend(good).unwrap();
        assert_eq!(attributes.size, Some(42));
        assert_eq!(attributes.path.as_deref(), Some(&b"ab\n"[..]));
        for bad in [
            &b"9999 size=42\n"[..],
            b"3 a\n",
            b"0 \n",
            b"11 size=42",
            b"x size=42\n",
            b"12 path=a\0b\n",
            b"9 uid=-1\n",
            b"19 uid=9999999999\n",
        ] {
            let result = Attributes::default().extend(bad);
            assert!(result.is_err(), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn the_exact_xattr_wins_over_the_coded_one() {
        let mut attributes = Attributes::default();
        attributes
            .extend(b"36 LIBARCHIVE.xattr.user.%61=AAEC/w\n")
            .unwrap();
        attributes.name_xattrs(false).unwrap();
        assert_eq!(
            attributes.xattrs.get(&b"user.a"[..]).map(|v| &**v),
            Some(&[0, 1, 2, 255][..])
        );
        attributes.extend(b"26 SCHILY.xattr.user.a=x\0\n").unwrap();
        attributes.name_xattrs(false).unwrap();
        assert_eq!(
            attributes.xattrs.get(&b"user.a"[..]).map(|v| &**v),
            Some(&b"x\0"[..])
        );
    }

    #[test]
    fn names_are_decoded_as_their_writer_encoded_them() {
        let names = |records: &[u8], raw_names| {
            let mut attributes = Attributes::default();
            attributes.extend(records).unwrap();
            attributes.name_xattrs(raw_names).unwrap();
            let names = attributes.xattrs.into_keys();
            names
                .map(|name| name.escape_ascii().to_string())
                .collect::<Vec<_>>()
        };
        let gnu = b"27 SCHILY.xattr.a%3Db%25=1\n";
        assert_eq!(names(gnu, false), ["a=b%"]);
        assert_eq!(names(gnu, true), ["a%3Db%25"]);
        let both = b"29 LIBARCHIVE.xattr.%C3=AA==\n23 SCHILY.xattr.%C3=xx\n";
        assert_eq!(names(both, false), ["\\xc3"]);
    }
}
