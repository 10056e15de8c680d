//! Sends the changes of an upload to a client before it sends any contents.

use std::io::{BufRead, Seek as _, Write};

use wire::exclude::Excludes;
use wire::manifest::ProfileName;
use wire::push::{Answer, LeftOut, Opening};

use super::{Frames, ReceiveError, Receiver, ServerFailure, StoreQueries, read_opening, say};
use crate::bake;
use crate::jobs::{Target, base_of, made_on};
use crate::limits::{LEFT_OUT_MAX, LISTING_LEN_MAX};
use source::open::{self, open_stream};

/// Receives a listing and answers with its changes.
pub(super) fn survey(
    receiver: &Receiver,
    target: &Target,
    input: &mut dyn BufRead,
    output: &mut dyn Write,
    store: &dyn StoreQueries,
) -> Result<(), ReceiveError> {
    receiver.check(target)?;
    store.known(target).map_err(ReceiveError::Unknown)?;
    let opening = read_opening(input)?;
    receiver.say_ready(target, output)?;
    let server = |error: std::io::Error| ReceiveError::Server(error.into());
    let mut listing = tempfile::tempfile_in(receiver.spool.parts()).map_err(server)?;
    let mut frames = Frames::new(input);
    let mut len = 0;
    while let Some(bytes) = frames.next()? {
        len += bytes.len() as u64;
        if len > LISTING_LEN_MAX {
            let what = format!("its listing is longer than {LISTING_LEN_MAX} bytes");
            return Err(ReceiveError::Opening(what));
        }
        listing.write_all(bytes).map_err(server)?;
    }
    listing.rewind().map_err(server)?;
    let answer =
        compare(receiver, target, &opening, listing, store).map_err(ReceiveError::Server)?;
    say(output, &answer);
    Ok(())
}

fn compare(
    receiver: &Receiver,
    target: &Target,
    opening: &Opening,
    listing: std::fs::File,
    store: &dyn StoreQueries,
) -> Result<Answer, ServerFailure> {
    let history = store.history()?;
    let name = ProfileName::new(&target.system, &target.profile)?;
    let revision = made_on(&history, &name, opening.base)?;
    let base = base_of(&history, &revision)?;
    let lists = receiver.spool.excludes(target)?;
    let lists = lists.iter().map(|list| (&*list.place, &*list.text));
    let excludes = Excludes::with_defaults(lists)?;
    let mut source = open_stream("the listing", listing, &open::SourceOptions::default())?;
    let found = bake::survey(&mut *source, &base, &excludes)?;
    let left_out = found.excluded.into_iter().take(LEFT_OUT_MAX);
    Ok(Answer::Surveyed {
        revision: revision.number(),
        changes: found.changes,
        excluded: left_out
            .map(|one| LeftOut {
                path: format!("/{}", one.path),
                pattern: one.pattern,
            })
            .collect(),
    })
}
