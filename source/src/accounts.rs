//! The users and groups of a tree, by its own `etc/passwd` and `etc/group`: those of this machine
//! do not apply.

use std::collections::HashMap;

/// Numbers by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounts {
    users: HashMap<Box<[u8]>, u32>,
    groups: HashMap<Box<[u8]>, u32>,
}

impl Accounts {
    /// Parses the two files; other lines are ignored.
    #[must_use]
    pub fn read(passwd: &[u8], group: &[u8]) -> Accounts {
        Accounts {
            users: numbers(passwd),
            groups: numbers(group),
        }
    }

    /// These accounts, replaced by the users of `own` if it has a file of users, and likewise the groups.
    #[must_use]
    pub fn under(self, own: Accounts, has_users: bool, has_groups: bool) -> Accounts {
        Accounts {
            users: if has_users { own.users } else { self.users },
            groups: if has_groups { own.groups } else { self.groups },
        }
    }

    /// The number of a user. Root needs no file.
    #[must_use]
    pub fn user(&self, name: &[u8]) -> Option<u32> {
        find(&self.users, name)
    }

    /// The number of a group.
    #[must_use]
    pub fn group(&self, name: &[u8]) -> Option<u32> {
        find(&self.groups, name)
    }
}

fn find(numbers: &HashMap<Box<[u8]>, u32>, name: &[u8]) -> Option<u32> {
    let root = (name == b"root").then_some(0);
    numbers.get(name).copied().or(root)
}

/// `NAME:PASSWORD:NUMBER:…`; of two lines with one name the first counts, as for the C library.
fn numbers(text: &[u8]) -> HashMap<Box<[u8]>, u32> {
    let mut numbers = HashMap::new();
    for line in text.split(|&byte| byte == b'\n') {
        let mut fields = line.split(|&byte| byte == b':');
        let (Some(name), Some(_), Some(number)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let number = std::str::from_utf8(number).ok();
        let number = number.and_then(|number| number.parse().ok());
        if let Some(number) = number.filter(|number| *number != u32::MAX)
            && !name.is_empty()
        {
            numbers.entry(name.into()).or_insert(number);
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trees_own_files_say_who_is_who() {
        let passwd =
            b"root:x:0:0::/root:/bin/sh\njoe:x:1000:100::/:\njoe:x:7:7::/:\n+::\nbad:x:y:\n:x:3:\n";
        let accounts = Accounts::read(passwd, b"lp:x:7:joe\nlast:x:4294967295:");
        assert_eq!(accounts.user(b"joe"), Some(1000));
        assert_eq!(accounts.group(b"lp"), Some(7));
        assert_eq!(accounts.user(b"lp"), None);
        assert_eq!(accounts.user(b"bad"), None);
        assert_eq!(accounts.group(b"last"), None);
        assert_eq!(Accounts::default().group(b"root"), Some(0));
    }
}
