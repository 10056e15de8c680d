//! The conversation, without sshd.

use super::*;
use crate::jobs::BODY;

struct Fixture {
    _directory: tempfile::TempDir,
    receiver: Receiver,
}

fn fixture(body_len_max: u64) -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver {
        spool: Spool::open(directory.path()).unwrap(),
        key: "teacher".into(),
        fingerprint: None,
        rights: "kiosk".parse().unwrap(),
        body_len_max,
    };
    Fixture {
        _directory: directory,
        receiver,
    }
}

/// A store that has every system and no history.
struct AnySystem;

impl StoreQueries for AnySystem {
    fn known(&self, _target: &Target) -> Result<(), String> {
        Ok(())
    }

    fn history(&self) -> Result<History, ServerFailure> {
        Err("no history here".into())
    }
}

fn upload(opening: &str, frames: &[&[u8]]) -> Vec<u8> {
    let mut sent = format!("{opening}\n").into_bytes();
    let mut hasher = blake3::Hasher::new();
    let mut total = 0_u64;
    for frame in frames {
        sent.extend(u32::try_from(frame.len()).unwrap().to_le_bytes());
        sent.extend(*frame);
        hasher.update(frame);
        total += frame.len() as u64;
    }
    sent.extend([0; 4]);
    sent.extend(total.to_le_bytes());
    sent.extend(hasher.finalize().as_bytes());
    sent
}

fn ask(fixture: &Fixture, command: &str, sent: &[u8]) -> (Result<(), ReceiveError>, Vec<Answer>) {
    let mut output = Vec::new();
    let done = fixture
        .receiver
        .handle(command, &mut &sent[..], &mut output, &AnySystem);
    let lines = String::from_utf8(output).unwrap();
    let answers = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    (done, answers)
}

const OPENING: &str = r#"{"version":1,"author":"ann@host\u001b[31m","message":"fix\nit\u0007"}"#;

#[test]
fn a_whole_upload_is_queued() {
    let fixture = fixture(1000);
    let (done, answers) = ask(
        &fixture,
        "layerfs-push kiosk",
        &upload(OPENING, &[b"abc", b"def"]),
    );
    done.unwrap();
    assert_eq!(answers.len(), 2);
    assert_eq!(answers[0], Answer::Ready { excludes: vec![] });
    let jobs = fixture.receiver.spool.jobs(SpoolState::Queued).unwrap();
    assert_eq!(jobs.len(), 1);
    assert_eq!(
        answers[1],
        Answer::Queued {
            job: jobs[0].id.to_string()
        }
    );
    assert_eq!(std::fs::read(jobs[0].path.join(BODY)).unwrap(), b"abcdef");
    let request = jobs[0].request().unwrap();
    assert_eq!(request.author, "ann@host[31m");
    assert_eq!(request.message, "fix\nit");
    assert_eq!(
        request.origin,
        Origin::Push {
            key: "teacher".into(),
            fingerprint: None,
        }
    );
    assert_eq!(
        request.digest.as_deref(),
        Some(blake3::hash(b"abcdef").to_hex().as_str())
    );
}

#[test]
fn a_torn_or_damaged_upload_leaves_nothing() {
    let whole = upload(OPENING, &[b"abc", b"def"]);
    let mut damaged = whole.clone();
    let at = OPENING.len() + 1 + 4;
    damaged[at] ^= 1;
    for cut in 0..whole.len() {
        let fixture = fixture(1000);
        let (done, answers) = ask(&fixture, "layerfs-push kiosk", &whole[..cut]);
        assert!(done.is_err(), "cut at {cut}");
        assert!(matches!(answers.last(), Some(Answer::Refused { .. })));
        assert!(
            fixture
                .receiver
                .spool
                .jobs(SpoolState::Queued)
                .unwrap()
                .is_empty()
        );
        assert_eq!(
            std::fs::read_dir(fixture.receiver.spool.parts())
                .unwrap()
                .count(),
            0
        );
    }
    let fixture = fixture(1000);
    let (done, _) = ask(&fixture, "layerfs-push kiosk", &damaged);
    assert!(matches!(
        done,
        Err(ReceiveError::Frame(FrameError::Damaged))
    ));
    assert!(
        fixture
            .receiver
            .spool
            .jobs(SpoolState::Queued)
            .unwrap()
            .is_empty()
    );
}

#[test]
fn what_is_not_allowed_is_refused_before_anything_is_read() {
    let fixture = fixture(4);
    let refused = |command: &str, opening: &str, frames: &[&[u8]], words: &str| {
        let (done, answers) = ask(&fixture, command, &upload(opening, frames));
        assert!(done.is_err());
        let Some(Answer::Refused { error }) = answers.last() else {
            panic!("{answers:?}")
        };
        assert!(error.contains(words), "{error}");
    };
    refused("layerfs-push lab", OPENING, &[], "may not push to lab/main");
    refused("cat /etc/shadow", OPENING, &[], "cannot run");
    refused("", OPENING, &[], "no shell");
    refused("layerfs-push kiosk", r#"{"version":9}"#, &[], "version 9");
    refused(
        "layerfs-push kiosk",
        "nonsense",
        &[],
        "first message is invalid",
    );
    refused(
        "layerfs-push kiosk",
        OPENING,
        &[b"12345"],
        "longer than the 4 bytes",
    );
    refused(
        "layerfs-follow 01ARZ3NDEKTSV4RRFFQ69G5FAV",
        OPENING,
        &[],
        "no job",
    );
    let mut long = format!("{OPENING}\n").into_bytes();
    long.extend(u32::MAX.to_le_bytes());
    let (done, _) = ask(&fixture, "layerfs-push kiosk", &long);
    assert!(matches!(
        done,
        Err(ReceiveError::Frame(FrameError::TooLong(u32::MAX)))
    ));
    assert!(
        fixture
            .receiver
            .spool
            .jobs(SpoolState::Queued)
            .unwrap()
            .is_empty()
    );
}

#[test]
fn one_key_cannot_fill_the_queue() {
    let mut fixture = fixture(1000);
    let sent = upload(OPENING, &[b"abc"]);
    for number in 0..limits::WAITING_OF_KEY_MAX {
        let (done, _) = ask(&fixture, "layerfs-push kiosk", &sent);
        done.unwrap_or_else(|error| panic!("upload {number}: {error}"));
    }
    let (done, answers) = ask(&fixture, "layerfs-push kiosk", &sent);
    assert!(
        matches!(done, Err(ReceiveError::Waiting(64, _))),
        "{done:?}"
    );
    assert!(matches!(answers.last(), Some(Answer::Refused { .. })));
    // A baked upload no longer counts, and another key has its own limit.
    let jobs = fixture.receiver.spool.jobs(SpoolState::Queued).unwrap();
    fixture
        .receiver
        .spool
        .transition(&jobs[0], SpoolState::Done)
        .unwrap();
    ask(&fixture, "layerfs-push kiosk", &sent).0.unwrap();
    assert!(ask(&fixture, "layerfs-push kiosk", &sent).0.is_err());
    fixture.receiver.key = "other".into();
    ask(&fixture, "layerfs-push kiosk", &sent).0.unwrap();
}
