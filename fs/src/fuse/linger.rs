//! A thread that has answered looks for the next request for a moment before it sleeps.
//!
//! A program that makes one call after the other sends its next request microseconds after the answer.
//! Waking a thread that sleeps on another processor takes longer than that. The look ends when another
//! program wants the processor, and vain looks become rare, so that a program that runs on the same
//! processor or sends requests slowly loses nothing.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::limits::{LINGER_TIME, LOOKS_SKIPPED_MAX};

/// After an answer that took longer, nobody looks: it read, wrote or decoded many bytes, several
/// threads may do so at once, and a wake-up is a small part of its time.
const QUICK: Duration = Duration::from_micros(100);

/// The looks of one mount. At most one thread looks; without a second processor none does.
#[derive(Debug)]
pub(super) struct Linger {
    is_useful: bool,
    is_looking: AtomicBool,
    /// Answers to come without a look.
    skips: AtomicU32,
    /// Answers without a look after the last vain one.
    skipped: AtomicU32,
}

impl Linger {
    /// For a process that may use this number of processors.
    pub(super) fn new(processors: usize) -> Linger {
        Linger {
            is_useful: processors > 1,
            is_looking: AtomicBool::new(false),
            skips: AtomicU32::new(0),
            skipped: AtomicU32::new(0),
        }
    }

    /// Called after an answer that took this time: returns when `device` has a request, or soon.
    pub(super) fn after_answer(&self, took: Duration, device: impl AsFd) {
        let is_useful = self.is_useful && took <= QUICK;
        if !is_useful || self.is_looking.swap(true, Ordering::Acquire) {
            return;
        }
        // Only the looking thread changes the numbers.
        match self.skips.load(Ordering::Relaxed) {
            0 => {
                let skips = match look(device) {
                    true => 0,
                    false => (self.skipped.load(Ordering::Relaxed) * 2 + 1).min(LOOKS_SKIPPED_MAX),
                };
                self.skips.store(skips, Ordering::Relaxed);
                self.skipped.store(skips, Ordering::Relaxed);
            }
            left => self.skips.store(left - 1, Ordering::Relaxed),
        }
        self.is_looking.store(false, Ordering::Release);
    }
}

/// True if `device` has a request soon.
fn look(device: impl AsFd) -> bool {
    let began = Instant::now();
    loop {
        let mut devices = [PollFd::new(&device, PollFlags::IN)];
        match rustix::event::poll(&mut devices, Some(&Timespec::default())) {
            Ok(0) if began.elapsed() < LINGER_TIME => rustix::thread::sched_yield(),
            Ok(0) | Err(_) => return false,
            Ok(_) => return true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skips_after(linger: &Linger, device: impl AsFd) -> u32 {
        linger.after_answer(QUICK, device);
        linger.skips.load(Ordering::Relaxed)
    }

    #[test]
    fn vain_looks_become_rare_until_one_finds_a_request() {
        let (device, requests) = rustix::pipe::pipe().unwrap();
        let linger = Linger::new(2);
        let mut looks = 0;
        for _ in 0..5000 {
            if linger.skips.load(Ordering::Relaxed) == 0 {
                looks += 1;
            }
            linger.after_answer(QUICK, &device);
        }
        // After 0, 1, 3, 7, … 1,023 answers, and then each 1,024th time.
        assert!((11..=15).contains(&looks), "{looks} looks");
        rustix::io::write(&requests, b"x").unwrap();
        let mut left = linger.skips.load(Ordering::Relaxed);
        while left > 0 {
            left = skips_after(&linger, &device);
        }
        for _ in 0..3 {
            assert_eq!(skips_after(&linger, &device), 0, "the request is there");
        }
        rustix::io::read(&device, &mut [0; 1]).unwrap();
        assert_eq!(skips_after(&linger, &device), 1, "the first vain look");
    }

    #[test]
    fn nobody_looks_beside_another_or_in_vain() {
        let (device, _requests) = rustix::pipe::pipe().unwrap();
        let linger = Linger::new(2);
        linger.is_looking.store(true, Ordering::Relaxed);
        assert_eq!(skips_after(&linger, &device), 0);
        assert_eq!(skips_after(&Linger::new(1), &device), 0);
        let linger = Linger::new(2);
        linger.after_answer(QUICK * 2, &device);
        assert_eq!(linger.skips.load(Ordering::Relaxed), 0, "a long answer");
        assert_eq!(skips_after(&linger, &device), 1);
    }
}
