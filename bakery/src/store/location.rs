//! The meaning of `--store`: a directory or a bucket; a misspelled bucket is never taken for a
//! directory.

use std::path::Path;

use super::{Result, StoreError};

/// The location of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StorePlace<'l> {
    /// Path of a directory.
    Directory(&'l Path),
    /// The text `BUCKET[/PREFIX]`.
    Bucket(&'l str),
}

impl<'l> StorePlace<'l> {
    /// Parses a location. A text like a misspelled URL is not a directory: `init` would create one
    /// of that name.
    ///
    /// # Errors
    /// It is neither; the message gives both forms.
    pub(super) fn of(location: &'l str) -> Result<StorePlace<'l>> {
        if let Some(bucket) = location.strip_prefix("s3://") {
            return Ok(StorePlace::Bucket(bucket));
        }
        if let Some(path) = location.strip_prefix("file://") {
            return Ok(StorePlace::Directory(Path::new(path)));
        }
        let Some((scheme, rest)) = location.split_once(':') else {
            return Ok(StorePlace::Directory(Path::new(location)));
        };
        let known = scheme.eq_ignore_ascii_case("s3") || scheme.eq_ignore_ascii_case("file");
        let named = scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        if known || (named && rest.starts_with('/')) {
            let what = format!(
                "'{location}' is neither a directory nor a bucket: write s3://BUCKET[/PREFIX] for a bucket, ./{location} for \
                 a directory of that name"
            );
            return Err(StoreError::Location(what));
        }
        Ok(StorePlace::Directory(Path::new(location)))
    }
}

/// Succeeds if the environment has the credentials that a bucket needs.
///
/// # Errors
/// There are none: the message names the variables. Without this check the library would query the
/// metadata service of a cloud, which never answers elsewhere.
pub(super) fn require_credentials(location: &str, has: impl Fn(&str) -> bool) -> Result<()> {
    let roles = [
        "AWS_SKIP_SIGNATURE",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_METADATA_ENDPOINT",
    ];
    if roles.iter().any(|name| has(name)) {
        return Ok(());
    }
    let pair = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
    let missing: Vec<&str> = pair.into_iter().filter(|name| !has(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(StoreError::Location(format!(
        "the store {location} needs {} in the environment (for a server of your own AWS_ENDPOINT too, for a bucket that asks \
         for no key AWS_SKIP_SIGNATURE=true, for the role of a cloud machine AWS_METADATA_ENDPOINT)",
        missing.join(" and ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelled_url_is_no_directory() {
        for location in [
            "S3:/x",
            "s3:/x",
            "s3:bucket",
            "S3://b",
            "file:/x",
            "http://h/x",
            "nas:/x",
        ] {
            let error = StorePlace::of(location).unwrap_err().to_string();
            assert!(
                error.contains("s3://BUCKET") && error.contains(location),
                "{error}"
            );
        }
        for (location, path) in [
            ("a:b", "a:b"),
            ("./S3:/x", "./S3:/x"),
            ("file:///x", "/x"),
            ("/x:/y", "/x:/y"),
        ] {
            assert_eq!(
                StorePlace::of(location).unwrap(),
                StorePlace::Directory(Path::new(path))
            );
        }
        assert_eq!(
            StorePlace::of("s3://b/p").unwrap(),
            StorePlace::Bucket("b/p")
        );
    }

    #[test]
    fn a_bucket_without_credentials_is_not_asked() {
        let with =
            |set: &'static [&str]| require_credentials("s3://b", move |name| set.contains(&name));
        let error = with(&[]).unwrap_err().to_string();
        assert!(
            error.contains("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
            "{error}"
        );
        let half = with(&["AWS_ACCESS_KEY_ID"]).unwrap_err().to_string();
        assert!(half.contains("needs AWS_SECRET_ACCESS_KEY in"), "{half}");
        with(&["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]).unwrap();
        with(&["AWS_WEB_IDENTITY_TOKEN_FILE"]).unwrap();
    }
}
