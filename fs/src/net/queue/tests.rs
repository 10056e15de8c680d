use std::sync::mpsc::{Receiver, channel};

use super::*;

fn range(offset: u64, len: u32) -> ChunkRange {
    let object = Arc::new(Object {
        path: "/layers/a".into(),
        batch_path: "/v1/batch/a".into(),
        optional: false,
    });
    ChunkRange {
        object,
        offset,
        len,
        digest: Digest::of(&offset.to_le_bytes()),
    }
}

fn want(queue: &mut Queue, range: &ChunkRange) -> Receiver<Outcome> {
    let (sender, receiver) = channel();
    let wanted = queue.want(range, Box::new(move |outcome| drop(sender.send(outcome))));
    assert!(wanted.is_ok());
    receiver
}

fn work(next: Next) -> QueuedWork {
    match next {
        Next::Work(work) => work,
        other => panic!("{other:?}"),
    }
}

fn offsets(work: &QueuedWork) -> Vec<u64> {
    work.ranges.iter().map(|taken| taken.range.offset).collect()
}

#[test]
fn one_flight_however_many_wait() {
    let mut queue = Queue::default();
    let wanted = range(0, 100);
    let waiters: Vec<_> = (0..5).map(|_| want(&mut queue, &wanted)).collect();
    let first = work(queue.take(Instant::now(), false, 2));
    assert_eq!(offsets(&first), [0]);
    let late = want(&mut queue, &wanted);
    assert!(matches!(queue.take(Instant::now(), false, 2), Next::Idle));
    queue
        .finish(&wanted.digest, &Bytes::from_static(b"x"))
        .notify();
    for waiter in waiters.iter().chain([&late]) {
        assert_eq!(
            waiter.try_recv().unwrap().unwrap(),
            Bytes::from_static(b"x")
        );
    }
}

#[test]
fn demand_goes_first_and_prefetch_waits_until_it_is_over() {
    let mut queue = Queue::default();
    assert!(queue.suggest(&range(1 << 30, 100)));
    assert!(!queue.suggest(&range(1 << 30, 100)));
    let _waiter = want(&mut queue, &range(0, 100));
    let first = work(queue.take(Instant::now(), true, 2));
    assert_eq!(
        (offsets(&first), first.priority),
        (vec![0], Priority::Demand)
    );
    assert!(
        matches!(queue.take(Instant::now(), true, 2), Next::Idle),
        "prefetch must stand back"
    );
    queue.finish(&range(0, 100).digest, &Bytes::new()).notify();
    queue.work_over(Priority::Demand);
    let second = work(queue.take(Instant::now(), true, 2));
    assert_eq!(
        (offsets(&second), second.priority),
        (vec![1 << 30], Priority::Prefetch)
    );
}

#[test]
fn wanting_a_suggested_piece_makes_it_demand_and_a_running_one_hurry() {
    let mut queue = Queue::default();
    queue.suggest(&range(0, 10));
    queue.suggest(&range(1 << 20, 10));
    let running = work(queue.take(Instant::now(), false, 1));
    assert!(
        matches!(queue.take(Instant::now(), false, 1), Next::Idle),
        "one prefetch at a time"
    );
    let _a = want(&mut queue, &range(0, 10));
    assert!(running.hurry.load(Ordering::Relaxed));
    let _b = want(&mut queue, &range(1 << 20, 10));
    let second = work(queue.take(Instant::now(), false, 1));
    assert_eq!(
        (offsets(&second), second.priority),
        (vec![1 << 20], Priority::Demand)
    );
}

#[test]
fn neighbors_share_a_range_and_a_batch_takes_the_far_ones_too() {
    let mut queue = Queue::default();
    let places = [0u64, 50_000, 10 << 20, 100];
    let waiters: Vec<_> = places
        .iter()
        .map(|offset| want(&mut queue, &range(*offset, 100)))
        .collect();
    let plain = work(queue.take(Instant::now(), false, 2));
    assert_eq!((offsets(&plain), plain.side_by_side), (vec![0, 100], true));
    let batch = work(queue.take(Instant::now(), true, 2));
    assert_eq!(
        (offsets(&batch), batch.side_by_side),
        (vec![50_000, 10 << 20], false)
    );
    drop(waiters);
}

#[test]
fn a_failed_piece_keeps_what_came_waits_and_goes_alone() {
    let mut queue = Queue::default();
    let _a = want(&mut queue, &range(0, 100));
    let _b = want(&mut queue, &range(100, 100));
    let mut first = work(queue.take(Instant::now(), false, 2));
    assert_eq!(first.ranges.len(), 2);
    for mut taken in first.ranges.drain(..) {
        taken.partial = vec![7; 40];
        queue.retry(taken, 0b1, Duration::from_secs(5), false);
    }
    queue.work_over(Priority::Demand);
    assert!(matches!(
        queue.take(Instant::now(), false, 2),
        Next::Sleep(_)
    ));
    let again = work(queue.take(Instant::now() + Duration::from_secs(6), false, 2));
    assert_eq!((again.ranges.len(), again.avoid), (1, 0b1));
    assert_eq!(
        again.ranges[0].missing(),
        again.ranges[0].range.offset + 40..again.ranges[0].range.end()
    );
}

#[test]
fn prefetch_that_keeps_failing_is_dropped() {
    let mut queue = Queue::default();
    queue.suggest(&range(0, 100));
    for _ in 0..PREFETCH_FAILURES_MAX {
        let mut failed = work(queue.take(Instant::now(), false, 2));
        queue.retry(failed.ranges.remove(0), 0, Duration::ZERO, false);
        queue.work_over(Priority::Prefetch);
    }
    assert!(matches!(queue.take(Instant::now(), false, 2), Next::Idle));
    assert_eq!(queue.suggested(), 0);
}

#[test]
fn the_stream_brings_what_lies_ahead_and_its_end_turns_waiters_into_demand() {
    let mut queue = Queue::default();
    let object = Arc::clone(&range(0, 1).object);
    queue.stream_at(&object, 1000, 10 << 20);
    let _soon = want(&mut queue, &range(2000, 100));
    assert!(queue.stream_awaited() && !queue.demand_pending());
    let _passed = want(&mut queue, &range(0, 100));
    let _far = want(&mut queue, &range(9 << 20, 100));
    assert_eq!(offsets(&work(queue.take(Instant::now(), false, 2))), [0]);
    assert_eq!(
        offsets(&work(queue.take(Instant::now(), false, 2))),
        [9 << 20]
    );
    queue.stream_over();
    assert_eq!(offsets(&work(queue.take(Instant::now(), false, 2))), [2000]);
}

#[test]
fn closing_tells_everybody() {
    let mut queue = Queue::default();
    let waiter = want(&mut queue, &range(0, 100));
    queue.close().notify();
    assert!(matches!(
        waiter.try_recv().unwrap().unwrap_err().as_ref(),
        FetchError::Closed
    ));
    let late = queue.want(
        &range(0, 100),
        Box::new(|_| panic!("notified under the lock")),
    );
    assert!(late.is_err());
}

#[test]
fn what_one_read_wants_goes_in_one_request_and_who_leaves_is_not_asked_for() {
    let mut queue = Queue::default();
    queue.suggest(&range(1000, 100));
    let _first = want(&mut queue, &range(0, 100));
    let _second = want(&mut queue, &range(1000, 100));
    let third = queue
        .want(&range(2000, 100), Box::new(|_| panic!("it left")))
        .unwrap_or_else(|_| panic!("closed"));
    let together = work(queue.take(Instant::now(), false, 2));
    assert_eq!(
        (offsets(&together), together.priority),
        (vec![0, 1000, 2000], Priority::Demand)
    );
    queue.forget(&range(2000, 100).digest, third);
    let late = want(&mut queue, &range(2000, 100));
    queue
        .finish(&range(2000, 100).digest, &Bytes::from_static(b"x"))
        .notify();
    assert!(late.try_recv().unwrap().is_ok());
}
