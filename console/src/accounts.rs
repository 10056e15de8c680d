//! The accounts: names, roles, password hashes and invitations, in one file.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use serde::{Deserialize, Serialize};

use crate::text::{hex, now, random};

/// Shortest password, characters.
pub(crate) const PASSWORD_LEN_MIN: usize = 10;
/// Longest password, bytes: a longer one only costs time.
const PASSWORD_LEN_MAX: usize = 1024;
/// Validity of an invitation, seconds.
const INVITATION_S: u64 = 24 * 3600;
/// Maximum number of accounts and of open invitations.
const ACCOUNTS_MAX: usize = 1000;

/// The rights of an account. A later role includes the earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Sees everything except accounts and the audit log.
    Viewer,
    /// Also publishes, imports, assigns machines and moves rings.
    Operator,
    /// Also manages accounts, deletes objects and reads the audit log.
    Admin,
}

impl Role {
    /// Every role, the weakest first.
    pub(crate) const ALL: [Role; 3] = [Role::Viewer, Role::Operator, Role::Admin];

    /// The name of the role.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Admin => "admin",
        }
    }

    /// The role with this name.
    pub(crate) fn of(word: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.word() == word)
    }
}

/// A person who may log in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Account {
    /// The name, which is the author of revisions.
    pub(crate) name: String,
    /// The rights of the account.
    pub(crate) role: Role,
    /// The hash of the password, by Argon2.
    hash: String,
    /// Time of its creation, seconds since 1970.
    pub(crate) made: u64,
}

/// A link that makes an account, or gives an account a new password, once.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Invitation {
    /// BLAKE3 of the token in the link.
    digest: String,
    /// The name of the account; empty: the invited person chooses it.
    name: String,
    role: Role,
    expires: u64,
}

/// The person whom an invitation invites.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Invitee {
    /// The fixed name; empty: to be chosen.
    pub(crate) name: String,
    /// The role of the account.
    pub(crate) role: Role,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct AccountFile {
    accounts: Vec<Account>,
    #[serde(default)]
    invitations: Vec<Invitation>,
}

/// The reason why accounts cannot be changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccountError {
    /// The file cannot be read or written.
    #[error("cannot use {0}: {1}")]
    File(String, std::io::Error),
    /// The request is not allowed.
    #[error("{0}")]
    Refused(String),
}

type Result<T> = std::result::Result<T, AccountError>;

/// The accounts of one console.
#[derive(Debug)]
pub(crate) struct Accounts {
    file: PathBuf,
    book: Mutex<AccountFile>,
    /// A hash that is checked for unknown names, so that these take as long as known ones.
    decoy: String,
}

impl Accounts {
    /// Reads the accounts in a directory.
    ///
    /// # Errors
    /// The file is damaged or cannot be read.
    pub(crate) fn open(state: &Path) -> Result<Accounts> {
        let file = state.join("accounts.json");
        let failed = |error| AccountError::File(file.display().to_string(), error);
        let book = match fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| failed(e.into()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => AccountFile::default(),
            Err(error) => return Err(failed(error)),
        };
        let decoy = hash("a password of nobody")?;
        Ok(Accounts {
            file,
            book: Mutex::new(book),
            decoy,
        })
    }

    fn book(&self) -> MutexGuard<'_, AccountFile> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the accounts; nothing changes if they cannot be written.
    fn change<T>(&self, change: impl FnOnce(&mut AccountFile) -> Result<T>) -> Result<T> {
        let mut book = self.book();
        let mut next = AccountFile {
            accounts: book.accounts.clone(),
            invitations: book.invitations.clone(),
        };
        next.invitations.retain(|one| one.expires > now());
        let answer = change(&mut next)?;
        if next.accounts.len() + next.invitations.len() > ACCOUNTS_MAX {
            return refused("there are too many accounts and invitations");
        }
        self.write(&next)
            .map_err(|error| AccountError::File(self.file.display().to_string(), error))?;
        *book = next;
        Ok(answer)
    }

    /// Readable by the console's own account only.
    fn write(&self, book: &AccountFile) -> std::io::Result<()> {
        let directory = self.file.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        serde_json::to_writer_pretty(&mut file, book)?;
        file.write_all(b"\n")?;
        file.as_file().sync_all()?;
        file.persist(&self.file).map_err(|error| error.error)?;
        fs::File::open(directory)?.sync_all()
    }

    /// True before the first account.
    pub(crate) fn is_empty(&self) -> bool {
        self.book().accounts.is_empty()
    }

    /// The accounts, by name.
    pub(crate) fn list(&self) -> Vec<Account> {
        let mut accounts = self.book().accounts.clone();
        accounts.sort_by(|one, other| one.name.cmp(&other.name));
        accounts
    }

    /// The present role of an account; `None` if it was deleted.
    pub(crate) fn role(&self, name: &str) -> Option<Role> {
        let book = self.book();
        book.accounts
            .iter()
            .find(|one| one.name == name)
            .map(|one| one.role)
    }

    /// The account, if the password is right. Takes as long for an unknown name.
    pub(crate) fn log_in(&self, name: &str, password: &str) -> Option<Account> {
        let found = self
            .book()
            .accounts
            .iter()
            .find(|one| one.name == name)
            .cloned();
        let kept = found
            .as_ref()
            .map_or(self.decoy.as_str(), |one| one.hash.as_str());
        let parsed = PasswordHash::new(kept).ok()?;
        let long = password.len() > PASSWORD_LEN_MAX;
        let right = !long
            && Argon2::default()
                .verify_password(password.as_bytes(), &parsed)
                .is_ok();
        found.filter(|_| right)
    }

    /// The token of a new link for an account; if the name is empty, the invited person chooses it.
    ///
    /// # Errors
    /// The name is not one, or the file cannot be written.
    pub(crate) fn invite(&self, name: &str, role: Role) -> Result<String> {
        if !name.is_empty() {
            check_name(name)?;
        }
        let token = hex(&random::<32>()
            .map_err(|error| AccountError::File("the random numbers".into(), error))?);
        let invitation = Invitation {
            digest: digest(&token),
            name: name.to_owned(),
            role,
            expires: now() + INVITATION_S,
        };
        self.change(|book| {
            // A new link replaces the earlier ones of the same account.
            book.invitations.retain(|one| one.name != name);
            book.invitations.push(invitation);
            Ok(())
        })?;
        Ok(token)
    }

    /// The invited person of a link that is still valid.
    pub(crate) fn invitee(&self, token: &str) -> Option<Invitee> {
        let wanted = digest(token);
        let book = self.book();
        let mut valid = book.invitations.iter().filter(|one| one.expires > now());
        let found = valid.find(|one| one.digest == wanted)?;
        Some(Invitee {
            name: found.name.clone(),
            role: found.role,
        })
    }

    /// Uses a link: makes the account, or gives it the password.
    ///
    /// # Errors
    /// The link was used, the name is taken, or the password is too short.
    pub(crate) fn accept(&self, token: &str, name: &str, password: &str) -> Result<Account> {
        let wanted = digest(token);
        let count = password.chars().count();
        if count < PASSWORD_LEN_MIN || password.len() > PASSWORD_LEN_MAX {
            return refused(&format!(
                "a password has at least {PASSWORD_LEN_MIN} characters"
            ));
        }
        let hash = hash(password)?;
        self.change(|book| {
            let place = book.invitations.iter().position(|one| one.digest == wanted);
            let Some(place) = place else {
                return refused("this link was used or has expired: ask for a new one");
            };
            let invitation = book.invitations.swap_remove(place);
            let fixed = !invitation.name.is_empty();
            let name = if fixed {
                invitation.name
            } else {
                name.trim().to_owned()
            };
            check_name(&name)?;
            let known = book.accounts.iter().position(|one| one.name == name);
            if known.is_some() && !fixed {
                return refused("this name is taken");
            }
            let account = Account {
                name,
                role: invitation.role,
                hash,
                made: now(),
            };
            known.map(|place| book.accounts.swap_remove(place));
            book.accounts.push(account.clone());
            Ok(account)
        })
    }

    /// Gives an account another role.
    ///
    /// # Errors
    /// There is no such account, or it is the last administrator.
    pub(crate) fn set_role(&self, name: &str, role: Role) -> Result<()> {
        self.change(|book| {
            let found = book.accounts.iter_mut().find(|one| one.name == name);
            let Some(account) = found else {
                return refused("there is no such account");
            };
            account.role = role;
            require_admin(book)
        })
    }

    /// Deletes an account.
    ///
    /// # Errors
    /// There is no such account, or it is the last administrator.
    pub(crate) fn delete(&self, name: &str) -> Result<()> {
        self.change(|book| {
            let count = book.accounts.len();
            book.accounts.retain(|one| one.name != name);
            if book.accounts.len() == count {
                return refused("there is no such account");
            }
            book.invitations.retain(|one| one.name != name);
            require_admin(book)
        })
    }
}

fn require_admin(book: &AccountFile) -> Result<()> {
    match book.accounts.iter().any(|one| one.role == Role::Admin) {
        true => Ok(()),
        false => refused("one account must remain an administrator"),
    }
}

fn refused<T>(why: &str) -> Result<T> {
    Err(AccountError::Refused(why.to_owned()))
}

fn digest(token: &str) -> String {
    blake3::hash(token.as_bytes()).to_hex().to_string()
}

fn hash(password: &str) -> Result<String> {
    let failed = |error: &dyn std::fmt::Display| {
        AccountError::Refused(format!("the password cannot be hashed: {error}"))
    };
    let salt = random::<16>().map_err(|error| failed(&error))?;
    let salt = SaltString::encode_b64(&salt).map_err(|error| failed(&error))?;
    let hash = Argon2::default().hash_password(password.as_bytes(), &salt);
    Ok(hash.map_err(|error| failed(&error))?.to_string())
}

/// A name becomes the author of revisions, so it is one word without misleading characters.
fn check_name(name: &str) -> Result<()> {
    let good = name
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "._@-".contains(c));
    if good
        && (1..=64).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
    {
        return Ok(());
    }
    refused("a name has 1 to 64 of A-Z a-z 0-9 . _ @ - and begins with a letter or digit")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_makes_one_account_once() {
        let room = tempfile::tempdir().unwrap();
        let accounts = Accounts::open(room.path()).unwrap();
        let token = accounts.invite("", Role::Admin).unwrap();
        assert!(accounts.invitee("00").is_none());
        assert_eq!(accounts.invitee(&token).unwrap().role, Role::Admin);
        assert!(accounts.accept(&token, "ann", "short").is_err());
        assert!(accounts.accept(&token, "<b>", "long enough").is_err());
        accounts.accept(&token, "ann", "long enough").unwrap();
        assert!(
            accounts.accept(&token, "eve", "long enough").is_err(),
            "used"
        );
        let again = Accounts::open(room.path()).unwrap();
        assert!(again.log_in("ann", "long enough").is_some());
        assert!(again.log_in("ann", "long enougH").is_none());
        assert!(again.log_in("bob", "long enough").is_none());
        let text = fs::read_to_string(room.path().join("accounts.json")).unwrap();
        assert!(
            text.contains("$argon2id$") && !text.contains("long enough") && !text.contains(&token)
        );
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(room.path().join("accounts.json"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o77, 0);
    }

    #[test]
    fn the_last_administrator_stays() {
        let room = tempfile::tempdir().unwrap();
        let accounts = Accounts::open(room.path()).unwrap();
        let token = accounts.invite("ann", Role::Admin).unwrap();
        accounts.accept(&token, "", "long enough").unwrap();
        assert!(accounts.delete("ann").is_err());
        assert!(accounts.set_role("ann", Role::Viewer).is_err());
        assert_eq!(accounts.role("ann"), Some(Role::Admin));
    }
}
