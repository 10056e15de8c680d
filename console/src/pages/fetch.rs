//! Fetching an image by its URL, with a checksum.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::Answer;
use crate::accounts::Role;
use crate::problem::Problem;
use crate::tasks::{Task, TaskResult};
use crate::text::hex;
use crate::uploads::{Images, check};
use crate::web::{Form, Visitor, redirect};

/// Begins a download.
pub(super) fn begin(visitor: &Visitor, form: &Form) -> Answer {
    let (url, sum) = (
        form.get("url").to_owned(),
        form.get("sha256").to_ascii_lowercase(),
    );
    let parsed =
        reqwest::Url::parse(&url).map_err(|error| Problem::bad(format!("{url}: {error}")))?;
    if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
        return Err(Problem::bad("an address begins with http:// or https://"));
    }
    if sum.len() != 64 || !sum.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Problem::bad("the SHA-256 has 64 hexadecimal digits"));
    }
    let last = parsed
        .path_segments()
        .and_then(|mut parts| parts.next_back())
        .unwrap_or_default();
    let name = match form.get("as") {
        "" => last.to_owned(),
        name => name.to_owned(),
    };
    check(&name)?;
    super::import::place(visitor, &name)?;
    let what = format!("fetch {url} as {name}, SHA-256 {sum}");
    let images = visitor.app.images.clone();
    let task = visitor.act(Role::Operator, &what, || {
        let title = format!("{url} → {name}");
        let work = move |task: &Task| fetch(task, &images, &parsed, &name, &sum);
        visitor
            .app
            .tasks
            .start(&title, visitor.name(), work)
            .map_err(Problem::refused)
    })?;
    Ok(redirect(&format!("/tasks/{}", task.id)))
}

/// Loads the file, and keeps it only if its checksum is right.
fn fetch(task: &Task, images: &Images, url: &reqwest::Url, name: &str, sum: &str) -> TaskResult {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let part = images.part(name).map_err(|error| error.to_string())?;
    let loaded = runtime.block_on(load(task, url, &part, images.len_max()));
    let (len, found) = loaded.inspect_err(|_| {
        let _ = std::fs::remove_file(&part);
    })?;
    if found != sum {
        let _ = std::fs::remove_file(&part);
        return Err(format!(
            "the file has the SHA-256 {found}, not {sum}: it was deleted"
        ));
    }
    images
        .finish(name, len)
        .map_err(|error| error.to_string())?;
    Ok((name.to_owned(), format!("/import/image?name={name}")))
}

async fn load(
    task: &Task,
    url: &reqwest::Url,
    part: &Path,
    len_max: u64,
) -> Result<(u64, String), String> {
    let failed = |error: &dyn std::error::Error| bakery::human::causes(error);
    let client = reqwest::Client::builder()
        .connect_timeout(std::time::Duration::from_secs(20))
        .build();
    let client = client.map_err(|error| failed(&error))?;
    let answer = client
        .get(url.clone())
        .send()
        .await
        .map_err(|error| failed(&error))?;
    let mut answer = answer.error_for_status().map_err(|error| failed(&error))?;
    task.set_total(answer.content_length().unwrap_or(0));
    let mut file = File::create(part).map_err(|error| failed(&error))?;
    let (mut len, mut digest) = (0_u64, Sha256::new());
    while let Some(bytes) = answer.chunk().await.map_err(|error| failed(&error))? {
        len = len.saturating_add(bytes.len() as u64);
        if len > len_max {
            return Err(format!(
                "the file is longer than {len_max} bytes (--upload-max)"
            ));
        }
        digest.update(&bytes);
        file.write_all(&bytes).map_err(|error| failed(&error))?;
        task.add(bytes.len() as u64);
    }
    Ok((len, hex(&digest.finalize())))
}
