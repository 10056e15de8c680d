//! POSIX ACLs: converts the text in tar archives to the bytes of `system.posix_acl_*`.

use layerfmt::tree::Metadata;

use super::accounts::Accounts;
use super::limits::ACL_ENTRIES_MAX;

/// Version 2, the only one of the kernel.
const VERSION: u32 = 2;
/// The id of entries that have none.
const NO_ID: u32 = u32::MAX;

const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// Prefix of the attribute's name while an ACL waits for its numbers. No archive can contain such a
/// name.
const WAITING: u8 = 0;

/// The purpose of an ACL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AclKind {
    /// Access permissions of the object; its permission bits follow from them.
    Access,
    /// Initial permissions of objects created in a directory.
    Default,
}

impl AclKind {
    /// The attribute that stores such an ACL.
    #[must_use]
    pub fn attribute(self) -> &'static [u8] {
        match self {
            AclKind::Access => b"system.posix_acl_access",
            AclKind::Default => b"system.posix_acl_default",
        }
    }
}

/// An ACL with names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedAcl {
    /// The attribute that will hold it.
    pub attribute: Vec<u8>,
    /// The ACL as the archive has it.
    pub text: Vec<u8>,
}

impl NamedAcl {
    /// The kind of the ACL.
    #[must_use]
    pub fn kind(&self) -> AclKind {
        match &*self.attribute {
            b"system.posix_acl_access" => AclKind::Access,
            _ => AclKind::Default,
        }
    }

    /// The placeholder among an object's attributes until the numbers are known.
    #[must_use]
    pub fn placeholder(attribute: &[u8]) -> Vec<u8> {
        [&[WAITING], attribute].concat()
    }

    /// Removes the waiting ACLs from an object's attributes, and returns them.
    pub fn take(meta: &mut Metadata) -> Vec<NamedAcl> {
        let waits = |name: &[u8]| name.first() == Some(&WAITING);
        let Some(all) = meta
            .xattrs
            .as_ref()
            .filter(|all| all.keys().any(|name| waits(name)))
        else {
            return Vec::new();
        };
        let (waiting, rest): (Vec<_>, Vec<_>) = all
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()))
            .partition(|(name, _)| waits(name));
        meta.xattrs = (!rest.is_empty()).then(|| std::sync::Arc::new(rest.into_iter().collect()));
        let named = |(name, text): (Box<[u8]>, Box<[u8]>)| NamedAcl {
            attribute: name.get(1..).unwrap_or_default().to_vec(),
            text: text.into_vec(),
        };
        waiting.into_iter().map(named).collect()
    }
}

/// The reason why an ACL cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AclError {
    /// The text is not an ACL.
    #[error("{0}")]
    Malformed(String),
    /// The number of a user or group is unknown.
    #[error(
        "ACL entry \"{0}\": neither the archive's etc/passwd and etc/group nor the base's have that name; pack with bsdtar, which writes numbers too"
    )]
    Unknown(String),
}

/// The attribute's bytes for a list such as `user::rw-,user:1000:r--,mask::r--,other::r--` (also
/// one entry a line, also with the number as a fourth field). `None` if the list is equivalent to
/// the permission bits; a default list is kept even then, because it is recorded nowhere else.
///
/// # Errors
/// An entry is malformed, or names a user or group that `accounts` do not have.
pub fn from_text(
    text: &[u8],
    kind: AclKind,
    accounts: &Accounts,
) -> Result<Option<Vec<u8>>, AclError> {
    let mut entries = Vec::new();
    for line in text.split(|&byte| byte == b',' || byte == b'\n') {
        let line = line
            .split(|&byte| byte == b'#')
            .next()
            .unwrap_or_default()
            .trim_ascii();
        if line.is_empty() {
            continue;
        }
        if entries.len() == ACL_ENTRIES_MAX {
            let problem = format!("an ACL of more than {ACL_ENTRIES_MAX} entries");
            return Err(AclError::Malformed(problem));
        }
        let shown = || line.escape_ascii().to_string();
        let entry = entry(line, accounts).map_err(|problem| {
            AclError::Malformed(format!("ACL entry \"{}\": {problem}", shown()))
        })?;
        entries.push(entry.ok_or_else(|| AclError::Unknown(shown()))?);
    }
    entries.sort_unstable();
    let by_mode = |(tag, ..): &(u16, u32, u16)| matches!(*tag, USER_OBJ | GROUP_OBJ | OTHER);
    if entries.is_empty() || kind == AclKind::Access && entries.iter().all(by_mode) {
        return Ok(None);
    }
    let entries: Vec<_> = entries
        .into_iter()
        .map(|(tag, id, permissions)| (tag, permissions, id))
        .collect();
    Ok(Some(attribute_value(&entries)))
}

/// The attribute's bytes for a list of tags, permissions and numbers. A tag without a number gets
/// the kernel's number for none.
pub(super) fn attribute_value(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = VERSION.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        let id = match *tag {
            USER | GROUP => *id,
            _ => NO_ID,
        };
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&permissions.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}

/// The permission bits of an object with this access ACL: the kernel keeps them consistent, with
/// the mask as the group's bits. Some archives store the group's own bits instead.
#[must_use]
pub fn permissions(value: &[u8]) -> Option<u16> {
    let (entries, _) = value.get(4..)?.as_chunks::<8>();
    let bits = |wanted: u16| {
        let found = entries
            .iter()
            .find(|entry| entry.first_chunk() == Some(&wanted.to_le_bytes()));
        found
            .and_then(|entry| entry.get(2))
            .map(|bits| u16::from(*bits & 7))
    };
    let group = bits(MASK).or_else(|| bits(GROUP_OBJ))?;
    Some(bits(USER_OBJ)? << 6 | group << 3 | bits(OTHER)?)
}

/// One entry; `None` if it has a name without a number.
fn entry(line: &[u8], accounts: &Accounts) -> Result<Option<(u16, u32, u16)>, String> {
    let mut fields = line.split(|&byte| byte == b':').map(<[u8]>::trim_ascii);
    let (Some(kind), Some(who), Some(permissions)) = (fields.next(), fields.next(), fields.next())
    else {
        return Err("not of the form KIND:WHO:PERMISSIONS".to_owned());
    };
    let number = fields.next();
    let tag = match (kind, who.is_empty()) {
        (b"user" | b"u", true) => USER_OBJ,
        (b"user" | b"u", false) => USER,
        (b"group" | b"g", true) => GROUP_OBJ,
        (b"group" | b"g", false) => GROUP,
        (b"mask" | b"m", true) => MASK,
        (b"other" | b"o", true) => OTHER,
        _ => return Err("an unknown kind".to_owned()),
    };
    let id = match tag {
        USER => id(who, number, |name| accounts.user(name)),
        GROUP => id(who, number, |name| accounts.group(name)),
        _ => Some(NO_ID),
    };
    let mut bits = 0u16;
    for flag in permissions {
        bits |= match flag {
            b'r' => 4,
            b'w' => 2,
            b'x' => 1,
            b'-' => 0,
            _ => return Err("permissions are letters of rwx-".to_owned()),
        };
    }
    Ok(id.map(|id| (tag, id, bits)))
}

/// The number of a user or group: as written, else by its name. A user may be called "1000", but
/// `getfacl` and `tar` also write numbers in this form.
fn id(who: &[u8], number: Option<&[u8]>, of: impl Fn(&[u8]) -> Option<u32>) -> Option<u32> {
    let digits = number.filter(|number| !number.is_empty()).unwrap_or(who);
    let text = std::str::from_utf8(digits).ok();
    text.and_then(|text| text.parse().ok())
        .or_else(|| of(who))
        .filter(|id| *id != NO_ID)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_programs_spellings_give_the_kernels_bytes() {
        // The result of getxattr after `setfacl -m u:1000:r--,g:7:rwx` on a file of mode 0640.
        let kernel: &[u8] = &[
            2, 0, 0, 0, //
            1, 0, 6, 0, 255, 255, 255, 255, //
            2, 0, 4, 0, 232, 3, 0, 0, //
            4, 0, 4, 0, 255, 255, 255, 255, //
            8, 0, 7, 0, 7, 0, 0, 0, //
            16, 0, 7, 0, 255, 255, 255, 255, //
            32, 0, 0, 0, 255, 255, 255, 255,
        ];
        for text in [
            &b"user::rw-\nuser:1000:r--\ngroup::r--\ngroup:7:rwx\nmask::rwx\nother::---\n"[..],
            b"user::rw-,group::r--,other::---,user:joe:r--:1000,group:lp:rwx:7,mask::rwx",
            b"u::rw-,u:1000:r--\t#effective:r--\ng::r--,g:7:rwx,m::rwx,o::---",
        ] {
            let bytes = from_text(text, AclKind::Access, &Accounts::default())
                .unwrap()
                .unwrap();
            assert_eq!(bytes, kernel, "{}", text.escape_ascii());
            assert_eq!(permissions(&bytes), Some(0o670));
        }
    }

    #[test]
    fn what_mode_bits_say_needs_no_list() {
        let list = b"user::rw-,group::r--,other::r--";
        let none = Accounts::default();
        assert_eq!(from_text(list, AclKind::Access, &none), Ok(None));
        assert_eq!(from_text(b"", AclKind::Default, &none), Ok(None));
        // The result of getxattr after `setfacl -d -m u::rwx,g::r-x,o::-` on a directory.
        let kernel: &[u8] = &[
            2, 0, 0, 0, //
            1, 0, 7, 0, 255, 255, 255, 255, //
            4, 0, 5, 0, 255, 255, 255, 255, //
            32, 0, 0, 0, 255, 255, 255, 255,
        ];
        let list = b"user::rwx,group::r-x,other::---";
        let bytes = from_text(list, AclKind::Default, &none).unwrap();
        assert_eq!(bytes.as_deref(), Some(kernel));
    }

    #[test]
    fn names_are_those_of_the_tree() {
        let accounts = Accounts::read(b"joe:x:1000:100::/:", b"lp:x:7:");
        let named = from_text(
            b"u::rw-,u:joe:r--,g::r--,g:lp:rwx,m::rwx,o::---",
            AclKind::Access,
            &accounts,
        );
        let numbered = from_text(
            b"u::rw-,u:1000:r--,g::r--,g:7:rwx,m::rwx,o::---",
            AclKind::Access,
            &accounts,
        );
        assert_eq!(named, numbered);
        assert!(named.unwrap().is_some());
        for unknown in [
            &b"user:lp:r--"[..],
            b"group:joe:r--",
            b"user:4294967295:r--",
        ] {
            let error = from_text(unknown, AclKind::Access, &accounts);
            assert!(matches!(error, Err(AclError::Unknown(_))), "{error:?}");
        }
        for bad in [&b"user"[..], b"what::r--", b"user::q--", b"mask:3:r--"] {
            let error = from_text(bad, AclKind::Access, &accounts);
            assert!(matches!(error, Err(AclError::Malformed(_))), "{error:?}");
        }
        assert!(from_text(b"user:root:r--", AclKind::Access, &Accounts::default()).is_ok());
    }
}
