//! The lifetime of heads: a setting beside the signing key, so that every signer uses it.

use std::fs;
use std::io::Write as _;
use std::time::Duration;

use super::{KeyError, Keys, file_error, unusable};
use crate::human;

/// File name of the setting: an age such as `30d`.
const LIFETIME: &str = "lifetime";
/// A shorter one could expire during a restart of the server.
const LIFETIME_MIN: Duration = Duration::from_secs(3600);
/// A longer one has no effect: the keys change sooner.
const LIFETIME_MAX: Duration = Duration::from_secs(10 * 366 * 86_400);

impl Keys {
    /// The lifetime of heads; `None` means forever.
    ///
    /// # Errors
    /// The setting cannot be read.
    pub fn lifetime(&self) -> Result<Option<Duration>, KeyError> {
        let file = self.directory.join(LIFETIME);
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(file_error("cannot read", &file, source)),
        };
        let lifetime = human::parse_age(text.trim()).and_then(sound);
        lifetime.map(Some).map_err(|what| unusable(&file, &what))
    }

    /// Sets the lifetime of future heads; `None` means forever.
    ///
    /// # Errors
    /// It is too short or too long, or cannot be written.
    pub(crate) fn set_lifetime(&self, lifetime: Option<Duration>) -> Result<(), KeyError> {
        let file = self.directory.join(LIFETIME);
        let failed = |source| file_error("cannot write", &file, source);
        let Some(lifetime) = lifetime else {
            return match fs::remove_file(&file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(error)),
                _ => Ok(()),
            };
        };
        let lifetime = sound(lifetime).map_err(|what| unusable(&file, &what))?;
        let mut new = tempfile::NamedTempFile::new_in(&self.directory).map_err(failed)?;
        writeln!(new, "{}s", lifetime.as_secs())
            .and_then(|()| new.as_file().sync_all())
            .map_err(failed)?;
        new.persist(&file).map_err(|error| failed(error.error))?;
        Ok(())
    }
}

fn sound(lifetime: Duration) -> Result<Duration, String> {
    if (LIFETIME_MIN..=LIFETIME_MAX).contains(&lifetime) {
        return Ok(lifetime);
    }
    Err("the lifetime of heads is 1h to 3660d; 30d is usual".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_kept_beside_the_key_and_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let keys = Keys::locate(Some(directory.path()), "").unwrap();
        assert_eq!(keys.lifetime().unwrap(), None);
        let days = Duration::from_secs(30 * 86_400);
        keys.set_lifetime(Some(days)).unwrap();
        assert_eq!(keys.lifetime().unwrap(), Some(days));
        fs::write(directory.path().join(LIFETIME), "14d\n").unwrap();
        assert_eq!(
            keys.lifetime().unwrap(),
            Some(Duration::from_secs(14 * 86_400))
        );
        assert!(keys.set_lifetime(Some(Duration::from_secs(60))).is_err());
        for bad in ["", "soon", "1s", "99999d"] {
            fs::write(directory.path().join(LIFETIME), bad).unwrap();
            assert!(keys.lifetime().is_err(), "{bad:?}");
        }
        keys.set_lifetime(None).unwrap();
        keys.set_lifetime(None).unwrap();
        assert_eq!(keys.lifetime().unwrap(), None);
    }
}
