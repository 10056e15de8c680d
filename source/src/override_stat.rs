//! Owner, mode and kind that fuse-overlayfs and containers/storage store in an attribute, because
//! the user who wrote the upper may not set them: `UID:GID:MODE[:KIND]`, the mode in octal.

use layerfmt::limits::SYMLINK_LEN_MAX;
use layerfmt::tree::Metadata;

use super::{Body, Data};

/// The attributes, the one that wins first.
const NAMES: [&[u8]; 3] = [
    b"security.fuseoverlayfs.override_stat",
    b"user.fuseoverlayfs.override_stat",
    b"user.containers.override_stat",
];

/// The contents of the attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Override {
    uid: u32,
    gid: u32,
    mode: u16,
    kind: Option<OverrideKind>,
}

/// The real kind of the object, if the user could only create a plain file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OverrideKind {
    /// The apparent kind.
    Same,
    /// A link whose target is the file's content.
    Symlink,
    Fifo,
    Socket,
    Char(u32, u32),
    Block(u32, u32),
}

/// Precedence of an attribute of this name; `None` for other attributes.
#[must_use]
pub fn rank(name: &[u8]) -> Option<usize> {
    NAMES.iter().position(|known| *known == name)
}

impl Override {
    /// Reads the attribute's value.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?.trim_end_matches('\0');
        let mut fields = text.splitn(4, ':');
        let uid = fields.next()?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let mode = u32::from_str_radix(fields.next()?, 8).ok()?;
        let kind = match fields.next() {
            None => None,
            Some(word) => Some(OverrideKind::parse(word)?),
        };
        Some(Self {
            uid,
            gid,
            mode: u16::try_from(mode & 0o7777).ok()?,
            kind,
        })
    }

    /// Gives an object its real attributes.
    ///
    /// # Errors
    /// The file that represents a link cannot be read, or is not a target.
    pub fn apply<'s>(self, meta: &mut Metadata, body: Body<'s>) -> Result<Body<'s>, String> {
        (meta.uid, meta.gid, meta.mode) = (self.uid, self.gid, self.mode);
        let Body::File(data) = body else {
            return Ok(body);
        };
        Ok(match self.kind {
            None | Some(OverrideKind::Same) => Body::File(data),
            Some(OverrideKind::Symlink) => Body::Symlink(target(data)?),
            Some(OverrideKind::Fifo) => Body::Fifo,
            Some(OverrideKind::Socket) => Body::Socket,
            Some(OverrideKind::Char(major, minor)) => Body::Char(major, minor),
            Some(OverrideKind::Block(major, minor)) => Body::Block(major, minor),
        })
    }
}

impl OverrideKind {
    fn parse(word: &str) -> Option<Self> {
        let numbers = |rest: &str| -> Option<(u32, u32)> {
            let mut parts = rest.trim_start_matches('-').split(['-', ':']);
            let numbers = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            parts.next().is_none().then_some(numbers)
        };
        Some(match word {
            "file" | "dir" => Self::Same,
            "symlink" => Self::Symlink,
            "pipe" => Self::Fifo,
            "socket" => Self::Socket,
            word => {
                if let Some(rest) = word.strip_prefix("char") {
                    let (major, minor) = numbers(rest)?;
                    Self::Char(major, minor)
                } else {
                    let (major, minor) = numbers(word.strip_prefix("block")?)?;
                    Self::Block(major, minor)
                }
            }
        })
    }
}

fn target(data: Data<'_>) -> Result<Box<[u8]>, String> {
    let mut target = Vec::new();
    let read = std::io::Read::take(data.reader, SYMLINK_LEN_MAX as u64 + 1);
    let mut read = read;
    std::io::Read::read_to_end(&mut read, &mut target)
        .map_err(|error| format!("the link's target cannot be read: {error}"))?;
    if target.is_empty() || target.len() > SYMLINK_LEN_MAX || target.contains(&0) {
        return Err(format!(
            "a link target has 1 to {SYMLINK_LEN_MAX} bytes, none of them NUL"
        ));
    }
    Ok(target.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_programs_values_are_read() {
        let read =
            |value: &[u8]| Override::parse(value).map(|one| (one.uid, one.gid, one.mode, one.kind));
        assert_eq!(read(b"55:66:100644"), Some((55, 66, 0o644, None)));
        assert_eq!(read(b"0:0:4755"), Some((0, 0, 0o4755, None)));
        assert_eq!(
            read(b"1:2:0755:dir"),
            Some((1, 2, 0o755, Some(OverrideKind::Same)))
        );
        let table = [
            (&b"0:0:0777:symlink"[..], OverrideKind::Symlink),
            (b"0:0:0777:pipe", OverrideKind::Fifo),
            (b"0:0:0777:socket", OverrideKind::Socket),
            (b"0:0:0777:char-5-1", OverrideKind::Char(5, 1)),
            (b"0:0:0777:block-8-16", OverrideKind::Block(8, 16)),
        ];
        for (value, kind) in table {
            assert_eq!(read(value), Some((0, 0, 0o777, Some(kind))));
        }
        for bad in [
            &b""[..],
            b"0:0",
            b"x:0:644",
            b"0:0:999",
            b"0:0:644:what",
            b"0:0:644:char-5",
        ] {
            assert_eq!(read(bad), None, "{}", bad.escape_ascii());
        }
    }
}
