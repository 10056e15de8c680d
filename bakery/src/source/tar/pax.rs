//! PAX extended headers: `LEN KEY=VALUE
//! ` records, and their supported keys.

use layerfmt::limits::{XATTR_NAME_LEN_MAX, XATTR_VALUE_LEN_MAX, XATTRS_PER_INODE_MAX};
use layerfmt::tree::{Time, Xattrs};

use crate::source::accounts::Accounts;
use crate::source::acl;

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

/// The `GNU.sparse.*` records of formats 0.0, 0.1 and 1.0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SparseRecords {
    pub(crate) major: Option<u64>,
    pub(crate) minor: Option<u64>,
    /// The entry's true name (0.1 and 1.0).
    pub(crate) name: Option<Vec<u8>>,
    /// `GNU.sparse.size` or `GNU.sparse.realsize`: the whole length of the file.
    pub(crate) size: Option<u64>,
    pub(crate) piece_count: Option<u64>,
    /// 0.0: offset and length records in their order; 0.1: the numbers of the one map record.
    pub(crate) numbers: Vec<u64>,
}

impl SparseRecords {
    /// True if the entry is a sparse file.
    pub(crate) fn are_there(&self) -> bool {
        *self != SparseRecords::default()
    }
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
            b"GNU.sparse.numblocks" => self.sparse.piece_count = natural(value)?,
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
                false => self.xattr(&wire::pax::xattr_name(&key), &value)?,
            }
        }
        Ok(())
    }

    fn xattr(&mut self, name: &[u8], value: &[u8]) -> Result<(), String> {
        if name.is_empty() || name.len() > XATTR_NAME_LEN_MAX || name.contains(&0) {
            return Err(format!(
                "attribute names have 1 to {XATTR_NAME_LEN_MAX} bytes, none 0"
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
                // Their numbers may come with the archive's own etc/passwd.
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

/// Notes an attribute, up to the bound on their number.
fn noted(xattrs: &mut Xattrs, name: &[u8], value: &[u8]) -> Result<(), String> {
    if xattrs.len() >= XATTRS_PER_INODE_MAX {
        return Err(format!("more than {XATTRS_PER_INODE_MAX} attributes"));
    }
    xattrs.insert(name.into(), value.into());
    Ok(())
}

/// The first record of `data`: key, value, and the rest.
fn record(data: &[u8]) -> Result<(&[u8], &[u8], &[u8]), String> {
    let broken = || "extended header: a record's length does not fit".to_owned();
    let space = data
        .iter()
        .take(20)
        .position(|&byte| byte == b' ')
        .ok_or_else(broken)?;
    let (digits, _) = data.split_at_checked(space).ok_or_else(broken)?;
    let len = natural(digits)?
        .and_then(|len| usize::try_from(len).ok())
        .ok_or_else(broken)?;
    let (record, rest) = data.split_at_checked(len).ok_or_else(broken)?;
    let body = record
        .get(space + 1..)
        .and_then(|body| body.strip_suffix(b"\n"));
    let body = body.ok_or_else(broken)?;
    let equals = body
        .iter()
        .position(|&byte| byte == b'=')
        .ok_or_else(broken)?;
    let (key, value) = body.split_at_checked(equals).ok_or_else(broken)?;
    Ok((key, value.get(1..).unwrap_or_default(), rest))
}

/// Text without NUL; empty means "take the plain header's".
fn text(value: &[u8]) -> Result<Option<Vec<u8>>, String> {
    if value.contains(&0) {
        return Err("a NUL in a name".to_owned());
    }
    Ok(Some(value.to_vec()).filter(|value| !value.is_empty()))
}

/// A decimal number; empty means "take the plain header's".
pub(crate) fn natural(value: &[u8]) -> Result<Option<u64>, String> {
    if value.is_empty() {
        return Ok(None);
    }
    let digits = value.iter().try_fold(0u64, |number, &digit| match digit {
        b'0'..=b'9' => number.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    });
    match digits {
        Some(number) if i64::try_from(number).is_ok() => Ok(Some(number)),
        _ => Err("not a number of at most 63 bits".to_owned()),
    }
}

fn natural32(value: &[u8]) -> Result<Option<u32>, String> {
    let number = natural(value)?;
    let narrow = number.map(u32::try_from).transpose();
    narrow.map_err(|_| "not a number of at most 32 bits".to_owned())
}

fn map(value: &[u8]) -> Result<Vec<u64>, String> {
    if value.is_empty() {
        return Ok(Vec::new());
    }
    let numbers = value.split(|&byte| byte == b',');
    numbers
        .map(|number| natural(number)?.ok_or_else(|| "empty number".to_owned()))
        .collect()
}

/// A time: `[-]SECONDS[.FRACTION]`; digits beyond nanoseconds are cut towards the past.
pub(crate) fn time(value: &[u8]) -> Result<Time, String> {
    let wrong = || "not a time".to_owned();
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let mut parts = value.splitn(2, |&byte| byte == b'.');
    let whole = natural(parts.next().unwrap_or_default()).map_err(|_| wrong())?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) || (whole.is_none() && fraction.is_empty()) {
        return Err(wrong());
    }
    let sec = i64::try_from(whole.unwrap_or(0)).map_err(|_| wrong())?;
    let padded = fraction
        .iter()
        .copied()
        .chain(std::iter::repeat(b'0'))
        .take(9);
    let nsec = padded.fold(0u32, |nsec, digit| nsec * 10 + u32::from(digit - b'0'));
    let finer = fraction.iter().skip(9).any(|&digit| digit != b'0');
    if !negative {
        return Ok(Time { sec, nsec });
    }
    let nsec = nsec + u32::from(finer);
    match nsec {
        0 => Ok(Time { sec: -sec, nsec: 0 }),
        nsec => Ok(Time {
            sec: -sec - 1,
            nsec: 1_000_000_000 - nsec,
        }),
    }
}

fn percent_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.iter().copied();
    while let Some(byte) = rest.next() {
        out.push(match byte {
            b'%' => {
                let high = char::from(rest.next()?).to_digit(16)?;
                let low = char::from(rest.next()?).to_digit(16)?;
                u8::try_from(high * 16 + low).ok()?
            }
            byte => byte,
        });
    }
    Some(out)
}

/// Base64 with or without padding, as libarchive writes it.
fn base64_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 2);
    let (mut bits, mut held) = (0u32, 0u32);
    for &byte in text {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' | b'\n' => continue,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xff_ffff;
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push(u8::try_from(bits >> held & 0xff).ok()?);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let table: &[(&[u8], Option<(i64, u32)>)] = &[
            (b"0", Some((0, 0))),
            (b"1700000000.123456789", Some((1_700_000_000, 123_456_789))),
            (b"1.5", Some((1, 500_000_000))),
            (b"1.1234567899", Some((1, 123_456_789))),
            (b"-1", Some((-1, 0))),
            (b"-1.5", Some((-2, 500_000_000))),
            (b"-0.25", Some((-1, 750_000_000))),
            (b"-0.9999999999", Some((-1, 0))),
            (b"1.", Some((1, 0))),
            (b".5", Some((0, 500_000_000))),
            (b"", None),
            (b".", None),
            (b"1.x", None),
            (b"99999999999999999999", None),
        ];
        for (text, expected) in table {
            let got = time(text).ok().map(|time| (time.sec, time.nsec));
            assert_eq!(got, *expected, "{}", text.escape_ascii());
        }
    }

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
