//! Images in the console's directory: uploaded by browsers in parts, or put there by hand.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// Longest name, bytes.
const NAME_LEN_MAX: usize = 128;
/// The end of the name of an incomplete file.
const PART: &str = ".part";

/// The directory of images.
#[derive(Debug, Clone)]
pub(crate) struct Images {
    directory: PathBuf,
    len_max: u64,
}

/// One image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Image {
    /// The name of the file.
    pub(crate) name: String,
    /// Its length.
    pub(crate) len: u64,
    /// True if the rest is still to come.
    pub(crate) is_partial: bool,
}

/// The reason for refusing a piece.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    /// The name cannot be one.
    #[error("'{0}' cannot be the name of an image: use A-Z a-z 0-9 . _ + -")]
    Name(String),
    /// The piece does not continue the file, which has this length.
    #[error("the file has {0} bytes: continue there")]
    Offset(u64),
    /// More than the console accepts.
    #[error("an image has at most {0} bytes here (--upload-max)")]
    TooLong(u64),
    /// An image has this name.
    #[error("there is an image with this name: delete it first, or choose another name")]
    Exists,
    /// The file cannot be written.
    #[error("cannot write the image: {0}")]
    Io(#[from] io::Error),
}

type Result<T> = std::result::Result<T, UploadError>;

impl Images {
    /// The images in a directory, each at most this long.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub(crate) fn open(directory: &Path, len_max: u64) -> io::Result<Images> {
        fs::create_dir_all(directory)?;
        Ok(Images {
            directory: directory.to_owned(),
            len_max,
        })
    }

    /// The directory itself.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The file of a complete image. A name has no slash and no leading dot, so the file is in the
    /// directory; a symbolic link is none.
    ///
    /// # Errors
    /// The name is not one, or there is no such file.
    pub(crate) fn file(&self, name: &str) -> Result<PathBuf> {
        check(name)?;
        let path = self.directory.join(name);
        match fs::symlink_metadata(&path)?.file_type().is_file() {
            true => Ok(path),
            false => Err(io::Error::from(io::ErrorKind::NotFound).into()),
        }
    }

    /// Every image, by name.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub(crate) fn list(&self) -> io::Result<Vec<Image>> {
        let mut images = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let meta = entry.metadata()?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let (name, is_partial) = match name.strip_suffix(PART) {
                Some(name) => (name.to_owned(), true),
                None => (name, false),
            };
            if meta.is_file() && check(&name).is_ok() {
                let len = meta.len();
                images.push(Image {
                    name,
                    len,
                    is_partial,
                });
            }
        }
        images.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(images)
    }

    /// Length of the part that has arrived; 0 if none has.
    ///
    /// # Errors
    /// The name is not one, or is taken by a complete image.
    pub(crate) fn arrived(&self, name: &str) -> Result<u64> {
        let part = self.part(name)?;
        match fs::symlink_metadata(part) {
            Ok(meta) => Ok(meta.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// The unfinished file of an image that is not complete.
    ///
    /// # Errors
    /// The name is not one, or is taken.
    pub(crate) fn part(&self, name: &str) -> Result<PathBuf> {
        check(name)?;
        if fs::symlink_metadata(self.directory.join(name)).is_ok() {
            return Err(UploadError::Exists);
        }
        Ok(self.directory.join(format!("{name}{PART}")))
    }

    /// Adds a piece at `offset`; the new length.
    ///
    /// # Errors
    /// The piece does not continue the file, or the file would be too long.
    pub(crate) fn add(&self, name: &str, offset: u64, piece: &[u8]) -> Result<u64> {
        let part = self.part(name)?;
        let arrived = self.arrived(name)?;
        if offset != arrived {
            return Err(UploadError::Offset(arrived));
        }
        let len = arrived.saturating_add(piece.len() as u64);
        if len > self.len_max {
            return Err(UploadError::TooLong(self.len_max));
        }
        let mut file = options().open(part)?;
        file.seek(SeekFrom::End(0))?;
        file.write_all(piece)?;
        Ok(len)
    }

    /// Completes an image of which all parts have arrived.
    ///
    /// # Errors
    /// It has another length, or the name is taken.
    pub(crate) fn finish(&self, name: &str, len: u64) -> Result<()> {
        let part = self.part(name)?;
        let arrived = self.arrived(name)?;
        if arrived != len {
            return Err(UploadError::Offset(arrived));
        }
        File::open(&part)?.sync_all()?;
        fs::rename(&part, self.directory.join(name))?;
        File::open(&self.directory)?.sync_all()?;
        Ok(())
    }

    /// Deletes an image or an incomplete one.
    ///
    /// # Errors
    /// The name is not valid, or there is no such image.
    pub(crate) fn delete(&self, name: &str) -> Result<()> {
        check(name)?;
        let whole = fs::remove_file(self.directory.join(name));
        let part = fs::remove_file(self.directory.join(format!("{name}{PART}")));
        Ok(whole.or(part)?)
    }

    /// The longest image.
    pub(crate) fn len_max(&self) -> u64 {
        self.len_max
    }
}

fn options() -> OpenOptions {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(0o640);
    options
}

/// Succeeds for the name of an image.
///
/// # Errors
/// It has other characters, a leading dot, or the end of an incomplete file.
pub(crate) fn check(name: &str) -> Result<()> {
    let good = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte));
    let short = (1..=NAME_LEN_MAX).contains(&name.len());
    if good && short && !name.starts_with(['.', '-']) && !name.ends_with(PART) {
        return Ok(());
    }
    Err(UploadError::Name(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_upload_continues() {
        let room = tempfile::tempdir().unwrap();
        let images = Images::open(&room.path().join("images"), 8).unwrap();
        assert_eq!(images.add("a.iso", 0, b"abc").unwrap(), 3);
        assert!(matches!(
            images.add("a.iso", 0, b"abc"),
            Err(UploadError::Offset(3))
        ));
        assert_eq!(images.arrived("a.iso").unwrap(), 3);
        assert!(images.list().unwrap().first().unwrap().is_partial);
        assert!(images.file("a.iso").is_err());
        assert!(matches!(
            images.add("a.iso", 3, b"defghi"),
            Err(UploadError::TooLong(8))
        ));
        images.add("a.iso", 3, b"de").unwrap();
        assert!(images.finish("a.iso", 6).is_err());
        images.finish("a.iso", 5).unwrap();
        assert_eq!(fs::read(images.file("a.iso").unwrap()).unwrap(), b"abcde");
        assert!(matches!(
            images.add("a.iso", 5, b"x"),
            Err(UploadError::Exists)
        ));
        images.delete("a.iso").unwrap();
        assert!(images.list().unwrap().is_empty());
    }

    #[test]
    fn a_name_stays_in_the_directory() {
        let room = tempfile::tempdir().unwrap();
        let images = Images::open(&room.path().join("images"), 8).unwrap();
        fs::write(room.path().join("secret"), "x").unwrap();
        std::os::unix::fs::symlink(room.path().join("secret"), images.directory().join("link"))
            .unwrap();
        for name in [
            "../secret",
            "..",
            "/etc/passwd",
            "a/b",
            ".hidden",
            "-r",
            "a\0b",
            "",
            "a.part",
            "x\n",
        ] {
            assert!(
                matches!(images.add(name, 0, b"x"), Err(UploadError::Name(_))),
                "{name:?}"
            );
            assert!(
                images.file(name).is_err() && images.delete(name).is_err(),
                "{name:?}"
            );
        }
        assert!(images.file("link").is_err());
    }
}
