//! Import: images that were uploaded, fetched or put into the directory; their contents; the import
//! itself.

use std::fs::File;
use std::path::{Path as FilePath, PathBuf};

use askama::Template;
use axum::Extension;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, RawQuery, Request};
use axum::http::HeaderValue;
use axum::response::{IntoResponse as _, Response};
use bakery::cli::{ImportArgs, InitrdArgs};
use bakery::globals::Globals;
use clap::Parser;
use source::iso::Iso;
use wire::manifest::{ProfileName, RevisionName};

use super::Answer;
use super::action::{Action, page as action_page};
use crate::accounts::Role;
use crate::problem::{Problem, Result};
use crate::tasks::{Task, TaskResult};
use crate::text::query_text;
use crate::uploads::{Image, UploadError, check};
use crate::web::{Form, Frame, Visitor, html, redirect, with_notice};

/// Longest piece of an upload, bytes.
const PIECE_LEN_MAX: usize = 16 << 20;

#[derive(Template)]
#[template(path = "import.html")]
struct ImportPage {
    s: Frame,
    images: Vec<Image>,
    directory: String,
    len_max: u64,
}

/// The page of images.
pub(crate) async fn import(Extension(visitor): Extension<Visitor>) -> Answer {
    visitor
        .work(|visitor| {
            let images = &visitor.app.images;
            html(&ImportPage {
                s: visitor.frame(visitor.language.text("Import")),
                images: images.list()?,
                directory: images.directory().display().to_string(),
                len_max: images.len_max(),
            })
        })
        .await
}

/// The length of the part of an upload that has arrived.
pub(crate) async fn arrived(
    Extension(visitor): Extension<Visitor>,
    Path(name): Path<String>,
) -> Answer {
    visitor.require(Role::Operator)?;
    Ok(visitor
        .app
        .images
        .arrived(&name)?
        .to_string()
        .into_response())
}

/// A piece of an upload. Scripts send it, with the token in a header.
pub(crate) async fn piece(
    Extension(visitor): Extension<Visitor>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Answer {
    visitor.require(Role::Operator)?;
    let token = request
        .headers()
        .get("x-token")
        .and_then(|token| token.to_str().ok())
        .unwrap_or_default();
    let known = visitor
        .member
        .as_ref()
        .is_some_and(|(member, _)| member.knows(token));
    if !known {
        return Err(Problem::forbidden(
            "this upload is not of your session: load the page again",
        ));
    }
    check(&name)?;
    let number = |key| {
        query_text(query.as_deref(), key)
            .parse::<u64>()
            .map_err(|_| Problem::bad(format!("{key} is missing")))
    };
    let (offset, total) = (number("offset")?, number("total")?);
    if total > visitor.app.images.len_max() {
        return Err(UploadError::TooLong(visitor.app.images.len_max()).into());
    }
    let bytes = to_bytes(request.into_body(), PIECE_LEN_MAX).await;
    let bytes = bytes
        .map_err(|_| Problem::of(413, format!("a piece has at most {PIECE_LEN_MAX} bytes")))?;
    visitor
        .work(move |visitor| {
            let images = &visitor.app.images;
            if offset == 0 {
                visitor.act(
                    Role::Operator,
                    &format!("upload {name}, {total} bytes"),
                    || Ok(()),
                )?;
            }
            let len = match images.add(&name, offset, &bytes) {
                Ok(len) => len,
                Err(UploadError::Offset(arrived)) => return Ok(elsewhere(arrived)),
                Err(error) => return Err(error.into()),
            };
            if len < total {
                return Ok(len.to_string().into_response());
            }
            images.finish(&name, total)?;
            Ok("complete".into_response())
        })
        .await
}

/// Tells a script at which offset to continue.
fn elsewhere(arrived: u64) -> Response {
    let mut response = Response::new(Body::from(arrived.to_string()));
    *response.status_mut() = axum::http::StatusCode::CONFLICT;
    response
        .headers_mut()
        .insert("X-Arrived", HeaderValue::from(arrived));
    response
}

#[derive(Template)]
#[template(path = "image.html")]
struct ImagePage {
    s: Frame,
    name: String,
    proposal: String,
    members: Vec<String>,
    cmdline: String,
    left_out: Vec<String>,
    has_kernel: bool,
    problem: String,
}

/// An image and the choices for its import.
pub(crate) async fn image(
    Extension(visitor): Extension<Visitor>,
    RawQuery(query): RawQuery,
) -> Answer {
    visitor
        .work(move |visitor| {
            visitor.require(Role::Operator)?;
            let name = query_text(query.as_deref(), "name");
            let mut page = ImagePage {
                s: visitor.frame(&format!("{} {name}", visitor.language.text("Import"))),
                proposal: proposal(&name),
                members: Vec::new(),
                cmdline: String::new(),
                left_out: Vec::new(),
                has_kernel: false,
                problem: String::new(),
                name: name.clone(),
            };
            let path = visitor.app.images.file(&name)?;
            let looks_like_one = name.to_ascii_lowercase().ends_with(".iso");
            if let Err(problem) = look(&path, &name, &mut page)
                && looks_like_one
            {
                page.problem = problem;
            }
            html(&page)
        })
        .await
}

/// The name of a system from that of a file.
fn proposal(name: &str) -> String {
    let stem = name
        .split('.')
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase();
    let good = stem.chars().map(|c| {
        if c.is_ascii_alphanumeric() || c == '-' {
            c
        } else {
            '-'
        }
    });
    good.take(32)
        .collect::<String>()
        .trim_matches('-')
        .to_owned()
}

/// Reads the contents of a live medium; other images have no choices.
fn look(path: &FilePath, name: &str, page: &mut ImagePage) -> std::result::Result<(), String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let Ok(iso) = Iso::open(name, &file) else {
        return Ok(());
    };
    page.members = iso
        .systems(None)
        .map_err(|error| bakery::human::causes(&error))?;
    let files = iso.boot_files();
    let parameters = iso.parameters(files.as_ref().map(|files| files.kernel.as_str()));
    page.has_kernel = files.is_some();
    page.cmdline = parameters.kept.join(" ");
    page.left_out = parameters.left_out;
    Ok(())
}

/// The arguments of `bakery import`.
#[derive(Debug, Parser)]
struct ImportLine {
    #[command(flatten)]
    args: ImportArgs,
}

/// The arguments of `bakery initrd`.
#[derive(Debug, Parser)]
struct InitrdLine {
    #[command(flatten)]
    args: InitrdArgs,
}

/// Deletes an image, or begins an import or a download.
pub(crate) async fn act(Extension(visitor): Extension<Visitor>, form: Form) -> Answer {
    visitor
        .work(move |visitor| match form.get("do") {
            "delete" => {
                let name = form.get("name");
                visitor.act(Role::Operator, &format!("delete the image {name}"), || {
                    Ok(visitor.app.images.delete(name)?)
                })?;
                Ok(with_notice(
                    "/import",
                    visitor.language.text("The image was deleted."),
                ))
            }
            "fetch" => super::fetch::begin(visitor, &form),
            "import" => begin(visitor, &form),
            _ => Err(Problem::bad("there is no such action")),
        })
        .await
}

fn begin(visitor: &Visitor, form: &Form) -> Answer {
    let image = form.get("name");
    let path = visitor.app.images.file(image)?;
    let name: ProfileName = form.parse("system")?;
    let what = format!("import {image} as {name}");
    let mut line = vec![
        "import".to_owned(),
        name.to_string(),
        path.display().to_string(),
    ];
    let mut option = |key: &str, value: &str| line.push(format!("--{key}={value}"));
    option("author", visitor.name());
    let message = match form.get("message") {
        "" => what.clone(),
        why => format!("{why} ({what})"),
    };
    option("message", &message);
    if !form.get("member").is_empty() {
        option("member", form.get("member"));
    }
    if form.has("own_parameters") {
        option("cmdline", form.get("cmdline"));
    }
    option(
        "push-spool",
        &visitor.app.options.spool.display().to_string(),
    );
    if form.has("client") {
        line.push("--with-client".into());
        if !may_authorize() {
            line.push("--no-push-key".into());
        }
    }
    let parsed =
        ImportLine::try_parse_from(&line).map_err(|error| Problem::bad(error.to_string()))?;
    let globals = quiet(&visitor.app.options.globals);
    let builds = form.has("initramfs");
    let total = std::fs::metadata(&path)?.len();
    let done = format!("{} {name}", visitor.language.text("Imported"));
    let (reads, makes) = (
        visitor.language.text("Reading the image").to_owned(),
        visitor.language.text("Building the initramfs").to_owned(),
    );
    let task = visitor.act(Role::Operator, &message, || {
        let work = move |task: &Task| -> TaskResult {
            task.set_total(total);
            task.step(&reads);
            bakery::cli::import(parsed.args, &globals, &|len| task.add(len))
                .map_err(|error| format!("{error:#}"))?;
            if builds {
                task.set_total(0);
                task.step(&makes);
                publish_initramfs(&name.to_string(), &globals)?;
            }
            Ok((done, crate::snapshot::page_of(&name)))
        };
        visitor
            .app
            .tasks
            .start(&what, visitor.name(), work)
            .map_err(Problem::refused)
    })?;
    Ok(redirect(&format!("/tasks/{}", task.id)))
}

/// True if the console may add push keys; its own account may not.
fn may_authorize() -> bool {
    let file = FilePath::new(bakery::cli::AUTHORIZED_KEYS);
    let place = if file.exists() {
        Some(file)
    } else {
        file.parent()
    };
    place.is_some_and(|place| rustix::fs::access(place, rustix::fs::Access::WRITE_OK).is_ok())
}

fn publish_initramfs(name: &str, globals: &Globals) -> std::result::Result<RevisionName, String> {
    let line = InitrdLine::try_parse_from(["initrd", name]).map_err(|error| error.to_string())?;
    bakery::cli::publish_initramfs(line.args, globals).map_err(|error| format!("{error:#}"))
}

/// The options of a command that draws no progress.
fn quiet(globals: &Globals) -> Globals {
    Globals {
        quiet: true,
        verbose: 0,
        ..globals.clone()
    }
}

/// The page that builds an initramfs.
pub(crate) async fn ask_initramfs(
    Extension(visitor): Extension<Visitor>,
    RawQuery(query): RawQuery,
) -> Answer {
    visitor
        .work(move |visitor| {
            visitor.require(Role::Operator)?;
            let name = query_text(query.as_deref(), "name");
            let parsed: ProfileName = name.parse().map_err(|error| Problem::bad(format!("{error}")))?;
            let text = |english| visitor.language.text(english);
            let mut action = Action::new(text("Build initramfs"), "/do/initramfs", &crate::snapshot::page_of(&parsed));
            action.lead = vec![name.clone(), text("The initramfs is built from the tree of the system; a new revision gets it with the kernel. This takes some minutes.").to_owned()];
            action.command = format!("bakery initrd {name}");
            action.hidden = vec![("name", name)];
            action_page(visitor, action)
        })
        .await
}

/// Builds an initramfs.
pub(crate) async fn initramfs(Extension(visitor): Extension<Visitor>, form: Form) -> Answer {
    visitor
        .work(move |visitor| {
            let name: ProfileName = form.parse("name")?;
            let what = format!("build the initramfs of {name}");
            let globals = quiet(&visitor.app.options.globals);
            let done = visitor.language.text("Published").to_owned();
            let task = visitor.act(Role::Operator, &what, || {
                let work = move |_: &Task| -> TaskResult {
                    let published = publish_initramfs(&name.to_string(), &globals)?;
                    Ok((
                        format!("{done} {published}"),
                        crate::snapshot::page_of(&name),
                    ))
                };
                visitor
                    .app
                    .tasks
                    .start(&what, visitor.name(), work)
                    .map_err(Problem::refused)
            })?;
            Ok(redirect(&format!("/tasks/{}", task.id)))
        })
        .await
}

/// The path of an image that a download makes.
pub(super) fn place(visitor: &Visitor, name: &str) -> Result<PathBuf> {
    Ok(visitor.app.images.part(name)?)
}
