//! POSIX ACLs: the text tar archives carry to the bytes of `system.posix_acl_*`.

/// Version 2, the only one the kernel knows.
const VERSION: u32 = 2;
/// Most entries of one list; the kernel takes no more than fit into 64 KiB.
const ENTRIES_MAX: usize = 8000;
/// The id of entries that have none.
const NO_ID: u32 = u32::MAX;

const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// The attribute's bytes for a list such as `user::rw-,user:1000:r--,mask::r--,other::r--`
/// (also one entry a line, also with the number as a fourth field). `None` when the list says
/// no more than the permission bits do.
///
/// # Errors
/// An entry is malformed, or names a user or group without its number.
pub fn from_text(text: &[u8]) -> Result<Option<Vec<u8>>, String> {
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
        if entries.len() == ENTRIES_MAX {
            return Err(format!("an ACL of more than {ENTRIES_MAX} entries"));
        }
        let entry = entry(line)
            .map_err(|problem| format!("ACL entry \"{}\": {problem}", line.escape_ascii()))?;
        entries.push(entry);
    }
    entries.sort_unstable();
    if entries
        .iter()
        .all(|(tag, ..)| matches!(*tag, USER_OBJ | GROUP_OBJ | OTHER))
    {
        return Ok(None);
    }
    let mut bytes = VERSION.to_le_bytes().to_vec();
    for (tag, id, permissions) in entries {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&permissions.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    Ok(Some(bytes))
}

/// The permission bits of an object that has this access list: the kernel keeps them the same,
/// with the mask as the group's. Some archives keep the group's own instead.
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

fn entry(line: &[u8]) -> Result<(u16, u32, u16), String> {
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
        USER | GROUP => id(who, number)?,
        _ => NO_ID,
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
    Ok((tag, id, bits))
}

fn id(who: &[u8], number: Option<&[u8]>) -> Result<u32, String> {
    let digits = number.filter(|number| !number.is_empty()).unwrap_or(who);
    if who == b"root" && digits == who {
        return Ok(0);
    }
    let text = std::str::from_utf8(digits).ok();
    text.and_then(|text| text.parse().ok())
        .filter(|id| *id != NO_ID)
        .ok_or_else(|| {
            "a name without its number means nothing on this machine; pack with bsdtar, which writes both"
                .to_owned()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_programs_spellings_give_the_kernels_bytes() {
        // What getxattr returned for `setfacl -m u:1000:r--,g:7:rwx` on a file of mode 0640.
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
            let bytes = from_text(text).unwrap().unwrap();
            assert_eq!(bytes, kernel, "{}", text.escape_ascii());
            assert_eq!(permissions(&bytes), Some(0o670));
        }
    }

    #[test]
    fn what_mode_bits_say_needs_no_list() {
        assert_eq!(from_text(b"user::rw-,group::r--,other::r--"), Ok(None));
    }

    #[test]
    fn names_without_numbers_are_refused() {
        for bad in [
            &b"user:joe:r--"[..],
            b"user",
            b"what::r--",
            b"user::q--",
            b"mask:3:r--",
        ] {
            assert!(from_text(bad).is_err(), "{}", bad.escape_ascii());
        }
        assert!(from_text(b"user:root:r--").is_ok());
    }
}
